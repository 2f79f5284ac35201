"""One render in a process of its own.

A decoder that crashes on a hostile file takes one generation down, not the service; a cancelled
render is killed at once; the page stays quick while pixels are made. Parent and child speak
JSON lines: the request on the child's standard input, then progress and the outcome on its
standard output. The input stays open: when it closes, the parent is gone and the child goes too.
"""

import contextlib
import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import kolbo_demo
from kolbo_demo.service.catalogue import for_kind, kind_of_model
from kolbo_demo.service.errors import JobError

_log = logging.getLogger(__name__)

CHECK_SECONDS = 0.2
"""How often a running render looks whether it is still wanted."""
STALL_SECONDS = 900.0
"""A render that tells nothing for so long is given up: the longest audio takes less to read."""
_NICENESS = 5
_CHATTER_BYTES = 8192
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True)
class Task:
    """What to render: paths on this machine, all absolute."""

    source: str
    audio: str
    video: str
    """Where the MP4 goes."""
    thumbnail: str
    """Where its first frame goes, as JPEG."""
    face: tuple[float, float] | None
    model: str | None
    """The model asked for; None lets the source decide."""
    prompt: str | None = None


def run(
    task: Task, on_progress: Callable[[int, int], None], wanted: Callable[[], bool]
) -> dict[str, Any] | None:
    """Render in a child and return its result: model, duration (s), width, height (px)...

    `on_progress` gets frames done and frames in all. None means that `wanted` said no and the
    child is dead. Raises JobError. Whatever is raised here, the child does not outlive it.
    """
    with tempfile.TemporaryFile() as chatter:
        child = subprocess.Popen(  # noqa: S603 - our own module on our own interpreter
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            env=_environment(),
            start_new_session=True,
        )
        try:
            return _follow(child, task, on_progress, wanted)
        finally:
            _kill(child)
            _log.info("render %s said: %s", child.pid, _end_of(chatter))


def _follow(
    child: subprocess.Popen[bytes],
    task: Task,
    on_progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
) -> dict[str, Any] | None:
    assert child.stdin
    with contextlib.suppress(BrokenPipeError):  # a child dead at birth is told below
        child.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
        child.stdin.flush()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(child, lines), daemon=True).start()
    heard, look = time.monotonic(), 0.0
    while True:
        if time.monotonic() >= look:
            if not wanted():
                return None
            look = time.monotonic() + CHECK_SECONDS
        try:
            line = lines.get(timeout=CHECK_SECONDS)
        except queue.Empty:
            if time.monotonic() - heard > STALL_SECONDS:
                raise _broken("made no progress for a quarter of an hour") from None
            continue
        heard = time.monotonic()
        if not line:
            raise _broken(_last_words(child.wait()))
        message = json.loads(line)
        if "progress" in message:
            on_progress(*message["progress"])
        elif "failure" in message:
            failure = message["failure"]
            raise JobError(failure.pop("message"), **failure)
        else:
            return message["result"]


def _end_of(chatter: BinaryIO) -> str:
    """The last of what libraries, or a traceback, wrote: for the log, not for visitors."""
    chatter.seek(max(0, chatter.seek(0, os.SEEK_END) - _CHATTER_BYTES))
    return chatter.read().decode(errors="replace").strip()


def _pump(child: subprocess.Popen[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
    """Carry the child's lines over; an empty one says that it has ended."""
    assert child.stdout
    for line in child.stdout:
        lines.put(line)
    lines.put(b"")


def _kill(child: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        # The group: an encoder that the child started goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()
    assert child.stdin
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()


def _environment() -> dict[str, str]:
    """This process's environment, finding this very package, without anybody's keys."""
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    root = str(Path(kolbo_demo.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")]))
    return kept


def _last_words(code: int) -> str:
    if code >= 0:
        return f"ended without a result (exit code {code})"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return "was killed, most likely because the machine ran out of memory"
    return f"crashed ({name})"


def _broken(what: str) -> JobError:
    return JobError(
        f"The engine {what}. Try again; if it happens again, convert the files and use those.",
        category="engine",
        code="ENGINE_CRASHED",
        retryable=True,
    )


# From here on: the child.


def main() -> None:
    """Read one task from standard input, render it, tell the outcome on standard output."""
    task = Task(**json.loads(_request()))
    # Libraries chatter on standard output; only our lines may go there.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        threading.Thread(target=_die_with_parent, daemon=True).start()
        if hasattr(os, "nice"):
            os.nice(_NICENESS)

        def tell(**message: object) -> None:
            out.write(json.dumps(message) + "\n")

        try:
            result = render(task, lambda done, total: tell(progress=[done, total]))
        except JobError as error:
            tell(failure=error.failure.model_dump())
        else:
            tell(result=result)


def render(task: Task, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Look at the files, render, make the thumbnail. Raises JobError."""
    from kolbo_demo import media  # here, not above: the parent needs no decoder and no engine
    from kolbo_demo.engine.directions import Directions
    from kolbo_demo.engine.render import render as render_video

    with _told():
        source = media.inspect_source(Path(task.source))
        audio = media.inspect_audio(Path(task.audio))
        model = for_kind(source.kind)
        if task.model and kind_of_model(task.model) != source.kind:
            raise JobError(
                f"The model {task.model} does not take a source that is "
                f"{'an image' if source.kind == 'image' else 'a video'}; leave the model out.",
                category="input",
                code="WRONG_MODEL_TYPE",
            )
        _within("audio", audio.duration, model.min_audio_duration, model.max_audio_duration)
        _within("video", source.duration, model.min_video_duration, model.max_video_duration)
        directions = Directions.of(task.prompt, clip=source.kind == "video")
        face = (task.face[0], task.face[1]) if task.face else None
        made = render_video(
            Path(task.source),
            Path(task.audio),
            Path(task.video),
            face=face,
            directions=directions,
            on_progress=on_progress,
        )
        media.first_frame(Path(task.video)).save(task.thumbnail, "JPEG", quality=85)
    return {
        "model": model.identifier,
        "prompt_used": directions.told,
        "duration": round(float(made.duration), 3),
        "width": made.width,
        "height": made.height,
        "frames": made.frames,
        "fps": round(float(made.fps), 3),
        "frames_without_face": made.skipped,
    }


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what files and engine raise into JobError; the rest is a bug and ends the child."""
    from kolbo_demo.engine import EngineError
    from kolbo_demo.media import MediaError

    try:
        yield
    except MediaError as error:
        raise JobError(str(error), category="input", code="INVALID_MEDIA") from error
    except EngineError as error:
        raise JobError(str(error), category="engine", code="ENGINE_ERROR") from error
    except MemoryError as error:
        raise _broken("ran out of memory") from error
    except OSError as error:
        raise _broken(f"could not read or write a file ({error.strerror})") from error


def _within(what: str, seconds: float | None, low: float | None, high: float | None) -> None:
    if seconds is None:
        return
    if low is not None and seconds < low:
        problem = f"The {what} is {seconds:.2f} s long; give at least {low:g} s."
    elif high is not None and seconds > high + 0.5:  # encoders round up to whole packets
        problem = f"The {what} is {seconds:.0f} s long; cut it to at most {high:g} s."
    else:
        return
    raise JobError(problem, category="input", code=f"INVALID_{what.upper()}_DURATION")


def _request() -> bytes:
    """The first line of standard input, read without a buffer that a thread could hold locked."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(0, 1)
        if not chunk:
            sys.exit(1)
        line += chunk
    return bytes(line)


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()

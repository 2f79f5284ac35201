"""Visitors' files looked at in processes that may crash, hang or run out of memory.

The same answers as `media` gives, and the same MediaError, but no byte of the file is decoded in
this process. One child of ours has the decoders loaded and forks for each file: the copy is bounded
in memory, processor and clock time, sees one file, writes none, and is gone afterwards with all
that it started. What takes it down is, for everybody else, a file that cannot be read.
"""

import base64
import contextlib
import ctypes
import itertools
import json
import logging
import os
import queue
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitError
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolbo_demo.fair_lock import Rotation
from kolbo_demo.media.sniff import UNREADABLE, Media, MediaError, as_recording
from kolbo_demo.process.child import Child, Heard, Message
from kolbo_demo.process.confinement import Files, confine, confine_picture, seal, unreadable
from kolbo_demo.process.fork_server import AVAILABLE, Forks

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""A look takes no longer, or the file is refused."""
LOOK_MEMORY = 1536 * 1024**2
"""Bytes for one look: a picture of 50 megapixels with 16 bits takes about half."""
_START_SECONDS = 30.0
"""For the child to load its libraries on a busy machine."""
_AT_ONCE = max(2, os.cpu_count() or 1)
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8
LOOKS = "looks"
"""What `main` is called where a fork server offers it."""
_MOST_BYTES = 64 * 1024**2
"""Of one answer."""

_TOO_LONG = (
    "The file takes too long to be read: it is damaged or unusually packed. "
    "Save it again as MP4, or as JPEG if it is a picture, and choose the new copy."
)
_TOO_MUCH = "The file takes too much memory to be read: scale it down and try again."


def inspect_source(path: Path, decode: bool = True) -> Media:
    """`media.inspect_source`, at a distance."""
    return Media(**_ask("inspect_source", path, decode=decode))


@as_recording()
def inspect_audio(path: Path) -> Media:
    """`media.inspect_audio`, at a distance."""
    return Media(**_ask("inspect_audio", path))


def longest_sound(path: Path, enough: float) -> float:
    """`longest.longest_sound`, at a distance."""
    return _ask("longest_sound", path, enough=enough)["seconds"]


def preview(path: Path, pixels: int, at: float = 0.0) -> "Image.Image":
    """`media.first_frame`, at a distance, its longer side at most `pixels`."""
    from PIL import Image

    found = _ask("preview", path, pixels=pixels, at=at)
    return Image.frombytes("RGB", tuple(found["size"]), base64.b64decode(found["rgb"]))


@contextlib.contextmanager
def forked(forks: Forks) -> Iterator[None]:
    """Until the block ends, fork the child from a server that offers `LOOKS` and has the decoders
    loaded anyway, instead of starting it."""
    _looker.forks = forks if AVAILABLE else None
    try:
        yield
    finally:
        _looker.forks = None


def _ask(what: str, path: Path, **more: object) -> dict[str, Any]:
    with _turns.turn():
        answer = _looker.ask(str(Path(path).absolute()), what=what, **more)
    if fault := answer.get("fault"):
        _log.error("looking at a file failed: %s", fault)
        raise MediaError(UNREADABLE)
    if "refused" in answer:
        raise MediaError(answer["refused"])
    return answer["found"]


@dataclass
class _Looker:
    """The child, started when it is first wanted and again whenever it has died."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    forks: Forks | None = None
    _child: Child | None = None
    _waiting: dict[int, "Future[Message]"] = field(default_factory=dict)

    def ask(self, path: str, **request: object) -> Message:
        """The child's answer about a file; a refusal where none comes."""
        future: Future[Message] = Future()
        with self._lock:
            child = self._child = self._child or self._started()
            number = next(self._numbers)
            self._waiting[number] = future
            child.ask(Files(read=(path,)), number=number, path=path, **request)
        try:
            return future.result(_START_SECONDS + LOOK_SECONDS)
        except WaitError:
            child.kill()  # it ends every look in time, unless something is wrong with itself
            return {"refused": _TOO_LONG}

    def _started(self) -> Child:
        heard: Heard = queue.SimpleQueue()
        # A group of its own, since what interrupts the parent in a terminal is not for the child:
        # it ends when its parent does.
        if self.forks:
            child = self.forks.child(heard, LOOKS)
        else:
            child = Child.start(__name__, heard, leader=True)
        threading.Thread(target=self._listen, args=(child, heard), daemon=True).start()
        return child

    def _listen(self, child: Child, heard: Heard) -> None:
        while (message := heard.get()[1]) is not None:
            with self._lock:
                future = self._waiting.pop(message.pop("number"), None)
            if future:
                future.set_result(message)
        with self._lock:
            lost, self._waiting = self._waiting, {}
            self._child = None
        for future in lost.values():
            future.set_result({"refused": UNREADABLE})
        with contextlib.suppress(ValueError):  # killed before, its words are read
            _log.warning("the child that looks at files ended: %s", child.kill())


_looker = _Looker()
_turns = Rotation(_AT_ONCE)


# From here on: the child.


@dataclass
class _Look:
    """A copy of the child that looks at one file."""

    number: int
    pid: int
    deadline: float
    said: bytearray = field(default_factory=bytearray)


def main() -> None:
    """Fork for each request, relay the answers, end with the parent. One thread only: a copy that
    is made beside others could hold their locks for ever."""
    from kolbo_demo.media import duration_bound, probe  # noqa: F401 - here, once for all copies

    unreadable()
    with contextlib.suppress(AttributeError):
        # glibc reserves 64 MB of address space a thread otherwise.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    if not hasattr(os, "fork"):
        _without_copies()
        return
    out = os.dup(1)
    os.dup2(2, 1)  # libraries chatter on standard output; only our lines may go there
    asked = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while True:
            looks = {key.fd: key.data for key in selector.get_map().values() if key.data}
            soonest = min((look.deadline for look in looks.values()), default=None)
            wait = None if soonest is None else max(0.0, soonest - time.monotonic())
            for key, _ in selector.select(wait):
                data = os.read(key.fd, 65536)
                if key.data:
                    key.data.said += data
                    if not data or len(key.data.said) > _MOST_BYTES:
                        selector.unregister(key.fd)
                        _tell(out, _ended(key.fd, looks.pop(key.fd)))
                    continue
                if not data:  # the parent is gone
                    for descriptor, look in looks.items():
                        _ended(descriptor, look)
                    return
                *lines, rest = (bytes(asked) + data).split(b"\n")
                asked = bytearray(rest)
                for line in lines:
                    descriptor, look = _begun(json.loads(line))
                    selector.register(descriptor, selectors.EVENT_READ, look)
            for descriptor, look in looks.items():
                if look.deadline <= time.monotonic():
                    selector.unregister(descriptor)
                    _tell(out, {"number": _ended(descriptor, look)["number"], "refused": _TOO_LONG})


def _begun(request: Message) -> tuple[int, _Look]:
    """A copy at work, and where it will answer."""
    reader, writer = os.pipe()
    number = request.pop("number")
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, _Look(number, pid, time.monotonic() + LOOK_SECONDS)
    try:  # in the copy, which never returns from here
        os.setpgid(0, 0)
        with open(os.devnull, "r+b", 0) as nothing:  # noqa: PTH123 - its descriptor is meant
            for descriptor in range(3):
                os.dup2(nothing.fileno(), descriptor)
        os.closerange(3, writer)  # nothing but the file to come, and its own answer
        os.closerange(writer + 1, 1024)
        confine(LOOK_SECONDS, LOOK_MEMORY, output=0)
        seal(Files(**request.pop("files")))
        # Should the child itself be killed: at once where Linux can be told, else in time.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.alarm(int(LOOK_SECONDS) + 2)
        answer = memoryview(json.dumps(_look(request)).encode())
        while answer:
            answer = answer[os.write(writer, answer) :]
    finally:
        os._exit(0)


def _ended(descriptor: int, look: _Look) -> Message:
    """The copy's answer once it is gone, with all that it started."""
    with contextlib.suppress(OSError):  # it has left nothing behind
        os.killpg(look.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # not yet a group of its own
        os.kill(look.pid, signal.SIGKILL)
    _, status = os.waitpid(look.pid, 0)
    os.close(descriptor)
    try:
        answer = dict(json.loads(look.said))
    except (ValueError, TypeError, RecursionError):
        slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM)
        answer = {"refused": _TOO_LONG if slow else UNREADABLE}
    return {**answer, "number": look.number}  # last: whatever the copy says


def _tell(out: int, message: Message) -> None:
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[os.write(out, line) :]


def _look(request: Message) -> Message:
    """What `media` makes of one request."""
    from kolbo_demo.media import duration_bound, probe

    path = Path(request.pop("path"))
    try:
        what = request.pop("what")
        if what in ("inspect_source", "preview") and (size := probe.picture_size(path)):
            confine_picture(size[0] * size[1])
        match what:
            case "inspect_source":
                return {"found": asdict(probe.inspect_source(path, **request))}
            case "inspect_audio":
                return {"found": asdict(probe.inspect_audio(path))}
            case "longest_sound":
                ours = probe.inspect_audio(path).duration or 0.0
                most = max(ours, duration_bound.longest_sound(path, request["enough"]))
                return {"found": {"seconds": most}}
            case _:
                frame = probe.first_frame(path, request["at"], enough=request["pixels"] ** 2)
                frame.thumbnail((request["pixels"], request["pixels"]))
                rgb = base64.b64encode(frame.tobytes()).decode()
                return {"found": {"size": frame.size, "rgb": rgb}}
    except MediaError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": _TOO_MUCH}
    except Exception:  # noqa: BLE001 - what it is, only the other side can log
        return {"fault": traceback.format_exc()}


def _without_copies() -> None:
    """Where no process can be copied (Windows), the child itself looks, one file at a time."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        del request["files"]
        answer = {"number": request.pop("number"), **_look(request)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

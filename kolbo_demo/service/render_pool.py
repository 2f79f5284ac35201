"""One render in a process of its own.

A decoder that crashes on a hostile file takes one generation down, not the service; a cancelled
render is killed at once; the page stays quick while pixels are made. The child tells progress, then
the outcome; the processes that it starts in turn are of its group and end with it. No child sees
the files of two generations, but one may do several parts of the same.
"""

import contextlib
import functools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kolbo_demo import engine, logs
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import Child, ChildFailedError, MessageQueue, call
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.service.errors import JobError

_log = logging.getLogger(__name__)

CHECK_SECONDS = 0.2
"""How often a running render looks whether it is still wanted."""
KEPT_SECONDS = 10.0
"""A child that has done a part of a generation waits so long for the next one."""
STALL_SECONDS = 900.0
"""A render that tells nothing for so long is given up: the longest audio takes less to read."""
MOST_SEGMENTS = 1000
"""The longest voice has some 60; each becomes a workflow."""
START_SECONDS = 30.0
"""For a child to tell whether it has an engine, on a busy machine."""
PROBLEM = "problem"
"""The work of a child that tells what is wrong with the engine."""
_NO_ENGINE = "The local engine does not start on this machine; install requirements.txt anew."
_CRASHED = "ENGINE_CRASHED"
_CHILD = "kolbo_demo.service.render_worker"


@dataclass(frozen=True)
class Task:
    """What to render: paths on this machine, all absolute."""

    source: str
    audio: str
    video: str
    """Where the MP4 goes."""
    thumbnail: str
    """Where its first frame goes, as JPEG."""
    options: dict[str, Any]
    """`Options` as JSON."""
    workers: int | None = None
    """Processes that may share the render; None: one a core."""
    plan: str | None = None
    """Where to write the plan of a long one, for others to make its segments; None: all is made
    here."""


@dataclass(frozen=True)
class Segment:
    """One segment of what a task has planned, to be made on one core."""

    plan: str
    source: str
    index: int
    video: str
    """Where it goes, without sound."""


@dataclass(frozen=True)
class Join:
    """All segments, to be made into what their task asked for. They may be still in the making:
    each is waited for until it is `handed` over."""

    plan: str
    audio: str
    segments: list[str]
    """Files to come, in order, one that tells of each: `video`, where it is, and `unsynced`."""
    video: str
    thumbnail: str


def handed(told: Path, **what: Any) -> None:
    """Tell a process that waits for others what has become of their work, in the file `told`."""
    made = told.with_suffix(".new")
    made.write_text(json.dumps(what))
    made.replace(told)


@dataclass(frozen=True, eq=False)
class _Kept:
    """A child that has done a part of a generation, from the end of one to the next."""

    generation: str
    child: Child
    said: MessageQueue
    room: ExitStack

    def end(self) -> None:
        with self.room:
            self.child.kill()


def renderers(environment: dict[str, str] | None = None) -> fork_server.ForkServer:
    """A fork server of children that render, and look at files (`sandbox.forked`). `environment` is
    added to theirs."""
    return fork_server.ForkServer(_CHILD, environment)


@functools.lru_cache(maxsize=8)
def problem(server: fork_server.ForkServer) -> str | None:
    """`engine.unavailable_reason` in a child of one of `renderers`: this process does not load the
    engine. Blocks until the server has loaded it."""
    if not fork_server.AVAILABLE:
        return engine.unavailable_reason()
    try:
        answer = call(
            lambda messages: server.fork(messages, PROBLEM), START_SECONDS, AllowedFiles()
        )
    except (ChildFailedError, ChildProcessError):
        return _NO_ENGINE
    return answer["problem"]


class Ready:
    """A child that waits for the next task with all that it needs loaded: a generation does not
    wait for it to start. And one that has done a part of a generation, and waits for the next part
    of it: warm, it makes a segment a fifth quicker."""

    def __init__(
        self,
        server: fork_server.ForkServer,
        room: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`server` forks the children and ends with this, `room` keeps the folder to which a
        generation's child can write while it waits."""
        self._room = room
        self._forks = server
        self._lock = threading.Lock()
        self._waiting: tuple[Child, MessageQueue] | None = None
        self._kept: _Kept | None = None

    def take(self, generation: str | None = None) -> tuple[Child, MessageQueue]:
        """The one that has done a part of this generation, or the one that waits, or a new one; to
        be killed, or kept, by who took it. Raises ChildProcessError."""
        with self._lock:
            kept = self._kept if generation else None
            if kept:
                self._kept = None
                if kept.generation == generation and kept.child.alive:
                    kept.room.close()
                    return kept.child, kept.said
            taken, self._waiting = self._waiting, None
        if kept:
            kept.end()
        if taken and not taken[0].alive:
            taken[0].kill()
            taken = None
        return taken or self._started()

    def keep(self, generation: str, child: Child, said: MessageQueue) -> None:
        """Have a child that was taken, and has done its part, wait for the next."""
        room = ExitStack()
        room.enter_context(self._room(generation))
        kept = _Kept(generation, child, said, room)
        with self._lock:
            before, self._kept = self._kept, kept
        if before:
            before.end()
        end = threading.Timer(KEPT_SECONDS, self._tired_of, [kept])
        end.daemon = True
        end.start()

    def _tired_of(self, kept: _Kept) -> None:
        """End one that has not been taken since it was kept, and have one wait for anything."""
        with self._lock:
            if self._kept is not kept:
                return
            self._kept = None
        kept.end()
        self.refill()

    def refill(self) -> None:
        """Start one, if none waits."""
        with self._lock, contextlib.suppress(ChildProcessError):
            self._waiting = self._waiting or self._started()

    def close(self) -> None:
        """End those that wait."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            kept, self._kept = self._kept, None
        if waiting:
            waiting[0].kill()
        if kept:
            kept.end()
        self._forks.close()

    def _started(self) -> tuple[Child, MessageQueue]:
        said: MessageQueue = queue.SimpleQueue()
        return self._forks.fork(said), said


def run(
    task: Task | Segment | Join,
    files: AllowedFiles,
    on_progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
    ready: Ready,
    generation: str | None = None,
) -> dict[str, Any] | None:
    """Render in a child and return its result. `files` are all that the child can open; those of a
    `generation` are always the same.

    Of a `Task` and a `Join` that is duration (s), width, height (px)...; of a task that only made
    a plan `segments`, `frames` to be shown and `looks` taken; of a `Segment` its `unsynced` spans.
    `on_progress` gets frames done and frames in all. None means that `wanted` said no and the child
    is dead. Raises JobError. Whatever is raised here, the child does not outlive it; `ready` then
    has another one. After a part of a `generation` the child is kept for the next part.
    """
    try:
        child, said = ready.take(generation)
    except ChildProcessError as error:
        raise broken("could not be started") from error
    crashed, result = False, None
    try:
        child.send(files, do=type(task).__name__, **asdict(task))
        result = _follow(child, said, on_progress, wanted)
    except JobError as error:
        crashed = error.code == _CRASHED
        raise
    finally:
        whole = isinstance(task, Task) and not (result and "segments" in result)
        if generation and result is not None and not whole:
            ready.keep(generation, child, said)
        else:
            last = child.kill()
            if crashed:
                logs.event(
                    _log, "render crashed", logging.WARNING, where=logs.traceback_locations(last)
                )
            ready.refill()
    return result


def _follow(
    child: Child,
    said: MessageQueue,
    on_progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
) -> dict[str, Any] | None:
    told, look = time.monotonic(), 0.0
    while True:
        if time.monotonic() >= look:
            if not wanted():
                return None
            look = time.monotonic() + CHECK_SECONDS
        try:
            _, message = said.get(timeout=CHECK_SECONDS)
        except queue.Empty:
            if time.monotonic() - told > STALL_SECONDS:
                raise broken("made no progress for a quarter of an hour") from None
            continue
        told = time.monotonic()
        if message is None:
            raise broken(str(child.exit_error()))
        if "progress" in message:
            on_progress(*message["progress"])
        elif "failure" in message:
            raise JobError(**message["failure"])
        elif message["result"].get("segments", 1) > MOST_SEGMENTS:
            raise broken("told of more segments than any voice has")
        else:
            return message["result"]


def broken(what: str) -> JobError:
    """The engine has ended without an answer: what it did, in a few words."""
    return JobError(
        f"The engine {what}. Try again; if it happens again, convert the files and use those.",
        category="engine",
        code=_CRASHED,
        retryable=True,
    )

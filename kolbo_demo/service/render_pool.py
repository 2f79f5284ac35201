"""Renders in child processes.

A decoder that crashes on a hostile file fails one generation, not the service; a cancelled render
is killed at once; the page stays responsive. A child sends progress, then the outcome; processes
that it starts are in its group and end with it. A child never has the files of two generations, but
may do several parts of one.
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
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo import engine, logs
from kolbo_demo.engine.unsynced import UnsyncedSpan
from kolbo_demo.json_codec import encode
from kolbo_demo.options import Options
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import Child, ChildFailedError, MessageQueue, call
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.jobs import AppliedOptions, Outcome

_log = logging.getLogger(__name__)

CANCEL_POLL_SECONDS = 0.2
"""Polling interval of `should_continue` during a render."""
RESERVE_TIMEOUT_SECONDS = 10.0
"""Time for which a child that rendered a part of a generation waits for the next part."""
STALL_TIMEOUT_SECONDS = 900.0
"""Without a message from a render. Reading the longest audio takes less."""
MAX_SEGMENTS = 1000
"""Each becomes a workflow. The longest voice has about 60."""
START_TIMEOUT_SECONDS = 30.0
"""For a child to report whether it has an engine, on a busy machine."""
ENGINE_PROBLEM = "problem"
"""Entry point of a child that reports `engine.unavailable_reason`."""
_NO_ENGINE = "The local engine does not start on this machine; install requirements.txt anew."
_CRASHED = "ENGINE_CRASHED"
_CHILD = "kolbo_demo.service.render_worker"


@dataclass(frozen=True)
class RenderTask:
    """A video to render. All paths are absolute."""

    source: Path
    audio: Path
    video: Path
    """MP4 to write."""
    thumbnail: Path
    """JPEG of the first frame to write."""
    options: Options
    workers: int | None = None
    """Processes that may share the render; None is one per core."""
    plan: Path | None = None
    """File for the plan of a long video, instead of rendering it; None renders any."""
    preview: Path | None = None
    """JPEG to replace every second by the latest frame."""


@dataclass(frozen=True)
class SegmentTask:
    """One segment of a plan to render, on one core."""

    plan: Path
    source: Path
    index: int
    video: Path
    """MP4 without sound to write."""


@dataclass(frozen=True)
class JoinTask:
    """Segments to join, which may still be rendered: each is waited for until `announce_segment`
    writes its file."""

    plan: Path
    applied: AppliedOptions
    """Of the plan."""
    audio: Path
    segments: tuple[Path, ...]
    """Files that `announce_segment` writes, in order."""
    video: Path
    thumbnail: Path


@dataclass(frozen=True)
class RenderedSegment:
    """A segment to join."""

    video: Path
    unsynced: tuple[UnsyncedSpan, ...]


def announce_segment(path: Path, segment: RenderedSegment) -> None:
    """Tell the joining process that a segment is rendered, in a JSON file written atomically."""
    incoming = path.with_suffix(".new")
    incoming.write_text(json.dumps(encode(segment)))
    incoming.replace(path)


@dataclass(frozen=True, eq=False)
class _ReservedChild:
    """A child that rendered a part of a generation and waits for the next part."""

    generation: str
    child: Child
    messages: MessageQueue
    folder: ExitStack
    """Holds the generation's folder."""

    def end(self) -> None:
        with self.folder:
            self.child.kill()


def new_fork_server(environment: dict[str, str] | None = None) -> fork_server.ForkServer:
    """A fork server of children that render or inspect files (`sandbox.use_fork_server`).
    `environment` is added to theirs."""
    return fork_server.ForkServer(_CHILD, environment)


@functools.lru_cache(maxsize=8)
def engine_problem(server: fork_server.ForkServer) -> str | None:
    """`engine.unavailable_reason` of a child of `server`, as this process does not load the
    engine. Blocks until the server has loaded it."""
    if not fork_server.AVAILABLE:
        return engine.unavailable_reason()
    try:
        answer = call(
            lambda messages: server.fork(messages, ENGINE_PROBLEM),
            START_TIMEOUT_SECONDS,
            AllowedFiles(),
        )
    except (ChildFailedError, ChildProcessError):
        return _NO_ENGINE
    return answer["problem"]


class RenderPool:
    """Child processes for renders. One idle child is kept loaded, so that a generation does not
    wait for its start; one that rendered a part is reserved for the next part of the same
    generation, as a warm child renders a segment a fifth faster."""

    def __init__(
        self,
        server: fork_server.ForkServer,
        generation_folder: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`server` forks the children and is closed with the pool; `generation_folder` holds the
        folder to which a reserved child can write."""
        self._generation_folder = generation_folder
        self._server = server
        self._lock = threading.Lock()
        self._idle: tuple[Child, MessageQueue] | None = None
        self._reserved: _ReservedChild | None = None

    def run(
        self,
        task: RenderTask | SegmentTask | JoinTask,
        files: AllowedFiles,
        on_progress: Callable[[int, int], None],
        should_continue: Callable[[], bool],
        generation: str | None = None,
    ) -> Outcome:
        """Run a task in a child and return its outcome, an empty one once `should_continue` is
        False.

        `files` are all that the child can open, and the same for all tasks of a `generation`.
        `on_progress` gets the frames done and in all. Raises JobError. The child is killed, except
        after a part of a `generation`, when it is reserved for the next part.
        """
        try:
            child, messages = self._acquire(generation)
        except ChildProcessError as error:
            raise engine_crashed("could not be started") from error
        crashed, outcome = False, Outcome()
        try:
            child.send(files, do=type(task).__name__, task=encode(task))
            outcome = _follow(child, messages, on_progress, should_continue)
        except JobError as error:
            crashed = error.code == _CRASHED
            raise
        finally:
            if generation and (outcome.plan or outcome.unsynced is not None):
                self._reserve(generation, child, messages)
            else:
                output = child.kill()
                if crashed:
                    logs.event(
                        _log,
                        "render crashed",
                        logging.WARNING,
                        where=logs.traceback_locations(output),
                    )
                self.refill()
        return outcome

    def refill(self) -> None:
        """Start an idle child if there is none."""
        with self._lock, contextlib.suppress(ChildProcessError):
            self._idle = self._idle or self._start()

    def close(self) -> None:
        """Kill waiting children."""
        with self._lock:
            idle, self._idle = self._idle, None
            reserved, self._reserved = self._reserved, None
        if idle:
            idle[0].kill()
        if reserved:
            reserved.end()
        self._server.close()

    def _acquire(self, generation: str | None) -> tuple[Child, MessageQueue]:
        """The child reserved for the generation, the idle one or a new one, to be killed or
        reserved by the caller. Raises ChildProcessError."""
        with self._lock:
            reserved = self._reserved if generation else None
            if reserved:
                self._reserved = None
                if reserved.generation == generation and reserved.child.alive:
                    reserved.folder.close()
                    return reserved.child, reserved.messages
            idle, self._idle = self._idle, None
        if reserved:
            reserved.end()
        if idle and not idle[0].alive:
            idle[0].kill()
            idle = None
        return idle or self._start()

    def _reserve(self, generation: str, child: Child, messages: MessageQueue) -> None:
        folder = ExitStack()
        folder.enter_context(self._generation_folder(generation))
        reserved = _ReservedChild(generation, child, messages, folder)
        with self._lock:
            previous, self._reserved = self._reserved, reserved
        if previous:
            previous.end()
        timer = threading.Timer(RESERVE_TIMEOUT_SECONDS, self._expire, [reserved])
        timer.daemon = True
        timer.start()

    def _expire(self, reserved: _ReservedChild) -> None:
        """Replace a child that is still reserved by an idle one."""
        with self._lock:
            if self._reserved is not reserved:
                return
            self._reserved = None
        reserved.end()
        self.refill()

    def _start(self) -> tuple[Child, MessageQueue]:
        messages: MessageQueue = queue.SimpleQueue()
        return self._server.fork(messages), messages


def _follow(
    child: Child,
    messages: MessageQueue,
    on_progress: Callable[[int, int], None],
    should_continue: Callable[[], bool],
) -> Outcome:
    """Read a child's messages until its outcome, an empty one once `should_continue` is False."""
    last_message, poll_at = time.monotonic(), 0.0
    while True:
        if time.monotonic() >= poll_at:
            if not should_continue():
                return Outcome()
            poll_at = time.monotonic() + CANCEL_POLL_SECONDS
        try:
            _, message = messages.get(timeout=CANCEL_POLL_SECONDS)
        except queue.Empty:
            if time.monotonic() - last_message > STALL_TIMEOUT_SECONDS:
                raise engine_crashed("made no progress for a quarter of an hour") from None
            continue
        last_message = time.monotonic()
        if message is None:
            raise engine_crashed(str(child.exit_error()))
        if "progress" in message:
            on_progress(*message["progress"])
            continue
        outcome = Outcome.from_json(message["outcome"])
        if outcome.failure:
            raise JobError.from_failure(outcome.failure)
        if outcome.plan and outcome.plan.segments > MAX_SEGMENTS:
            raise engine_crashed("planned more segments than any voice has")
        return outcome


def engine_crashed(how: str) -> JobError:
    """The failure of an engine that ended without an answer: a verb phrase such as "ran out of
    memory"."""
    return JobError(
        f"The engine {how}. Try again; if it happens again, convert the files and use those.",
        category="engine",
        code=_CRASHED,
        retryable=True,
    )

"""Child processes that exchange JSON lines with their parent and never outlive it.

A child runs one module of this package. Requests go to its standard input, messages come from its
standard output. A decoder that crashes on a hostile file, or a render that is cancelled, takes down
its child alone. When the input closes, the parent is gone and the child exits.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

from kolbo_demo.process.confinement import AllowedFiles, disable_dumping, restrict_access

_STDERR_TAIL_BYTES = 8192
_MAX_MESSAGE_BYTES = 64 * 1024**2
_FILES = "files"
"""Key of a request for the files that it needs."""
_RUN_MODULE = str(Path(__file__).with_name("run_module.py"))
_INHERITED_VARIABLES = (
    # where programs, libraries and temporary files lie
    *("PATH", "HOME", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PATHEXT"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONHASHSEED"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONFAULTHANDLER"),
    *("IMAGEIO_FFMPEG_EXE", "FFMPEG_BINARY"),
    # language and clock
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    # threads and memory
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"),
)
"""Environment variables that a child gets. None is ours, and none holds a secret."""

SINGLE_THREAD_ENV: dict[str, str] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""Environment of a process that has one core to itself."""

Message = dict[str, Any]


class ChildFailedError(Exception):
    """A child ended without an answer. The message completes a sentence: "crashed (SIGSEGV)"."""

    def __init__(self, reason: str, timed_out: bool = False) -> None:
        """`timed_out`: it used up its processor time or wall-clock time."""
        super().__init__(reason)
        self.timed_out = timed_out


def cpu_count() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Process(Protocol):
    """The part of `subprocess.Popen` that `Child` uses."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


class Child:
    """A running child. Its messages go to a queue, each with the child that sent it; None reports
    its end."""

    def __init__(
        self, process: Process, stderr: IO[bytes], messages: "MessageQueue", group_leader: bool
    ) -> None:
        """`stderr` is the file that it writes everything but messages to. `kill` also ends the
        processes that a `group_leader` has started."""
        self._process, self._stderr, self._group_leader = process, stderr, group_leader
        threading.Thread(target=self._read_messages, args=(messages,), daemon=True).start()

    @classmethod
    def start(
        cls,
        module: str,
        messages: "MessageQueue",
        environment: dict[str, str] | None = None,
        group_leader: bool = False,
    ) -> "Child":
        """Start a module in a new interpreter. `environment` is added to `child_environment`."""
        disable_dumping()
        group_leader = group_leader and os.name == "posix"
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        process = subprocess.Popen(  # noqa: S603 - our own module on our own interpreter
            module_command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=child_environment() | (environment or {}),
            # No session: Linux shares the processor among sessions first, and a render's low
            # priority would count within its own alone.
            process_group=0 if group_leader else None,
        )
        return cls(process, stderr, messages, group_leader)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, files: AllowedFiles, /, **request: object) -> None:
        """Send a request. From the first on, the child can open the files of that one and no
        others. If the child is dead, the queue reports it."""
        assert self._process.stdin
        line = json.dumps({_FILES: asdict(files), **request}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def kill(self) -> str:
        """Kill it and wait. Returns the end of its standard error, for the log, not for
        visitors."""
        if self._group_leader:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with self._stderr as stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
            return stderr.read().decode(errors="replace").strip()

    def exit_error(self) -> ChildFailedError:
        """How a child ended that should not have. Blocks until it has."""
        code = self._process.wait()
        if code >= 0:
            return ChildFailedError(f"ended without a result (exit code {code})")
        name = signal.Signals(-code).name
        if name == "SIGKILL":
            return ChildFailedError("was killed, most likely because the machine ran out of memory")
        if name in ("SIGXCPU", "SIGALRM"):
            return ChildFailedError(
                "took more processor time than any sound file needs", timed_out=True
            )
        return ChildFailedError(f"crashed ({name})")

    def _read_messages(self, messages: "MessageQueue") -> None:
        assert self._process.stdout
        try:
            while line := self._process.stdout.readline(_MAX_MESSAGE_BYTES):
                messages.put((self, {**json.loads(line)}))
        except (ValueError, TypeError, RecursionError):
            # Half a line of a killed child, or the output of one that a file has taken over.
            self._process.kill()
        messages.put((self, None))


MessageQueue = queue.SimpleQueue[tuple[Child, Message | None]]


def call(
    start: Callable[[MessageQueue], Child],
    timeout: float,
    files: AllowedFiles,
    /,
    **request: object,
) -> Message:
    """The first message of a new child in response to one request; the child is killed then.

    Blocks for `timeout` seconds at most once the child is started. Raises ChildFailedError.
    """
    messages: MessageQueue = queue.SimpleQueue()
    child = start(messages)
    try:
        child.send(files, **request)
        return receive(messages, timeout)
    finally:
        child.kill()


def receive(messages: MessageQueue, timeout: float) -> Message:
    """The next message, within `timeout` seconds. Raises ChildFailedError."""
    try:
        child, message = messages.get(timeout=max(0.0, timeout))
    except queue.Empty:
        raise ChildFailedError("took too long", timed_out=True) from None
    if message is None:
        raise child.exit_error()
    return message


def call_module(module: str, timeout: float, files: AllowedFiles, /, **request: object) -> Message:
    """`call` of a module in a new interpreter."""
    return call(
        lambda messages: Child.start(module, messages, group_leader=True), timeout, files, **request
    )


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this package on this interpreter."""
    return [sys.executable, "-P", _RUN_MODULE, module, *arguments]


def child_environment() -> dict[str, str]:
    """This process's environment, reduced to what a child needs to start."""
    return {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}


# From here on: the child.


@contextlib.contextmanager
def parent_connection() -> Iterator[tuple[Iterator[Message], Callable[..., None]]]:
    """In a child: the parent's requests, and a function that sends a message of its keywords.

    Access is restricted to the files of the first request before that is yielded. The process must
    have one thread until then, since others would not be restricted.
    """
    disable_dumping()
    # Libraries print to standard output; only messages may go there.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)

        def send(**message: object) -> None:
            out.write(json.dumps(message) + "\n")

        yield _requests(), send


def _requests() -> Iterator[Message]:
    lines = _read_lines()
    first = json.loads(next(lines, None) or _exit_with_group())
    files = {name: tuple(paths) for name, paths in first.pop(_FILES).items()}
    restrict_access(AllowedFiles(**files))
    pending: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(lines, pending), daemon=True).start()
    yield first
    yield from iter(pending.get, None)


def _receive(lines: Iterator[bytes], pending: "queue.SimpleQueue[Message]") -> None:
    """Put requests into the queue; exit with all started processes when the parent is gone."""
    for line in lines:
        request = json.loads(line)
        del request[_FILES]
        pending.put(request)
    _exit_with_group()


def _read_lines() -> Iterator[bytes]:
    """Lines of standard input until it closes, without a buffer: a thread could hold its lock
    while the process ends."""
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _exit_with_group() -> NoReturn:
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)

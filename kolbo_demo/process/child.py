"""Processes of our own that speak JSON lines and never outlive who started them.

A decoder that crashes on a hostile file, or a render that is not wanted any more, takes such a
process down and nothing else. Requests go to its standard input, answers come from its standard
output. The input stays open: when it closes, the parent is gone and the child goes too.
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
"""Of one message."""
_FILES = "files"
"""Of a request: what its task opens."""
_RUN_MODULE = str(Path(__file__).with_name("start.py"))
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
"""Environment of a process that has a core, not the machine, to itself."""

Message = dict[str, Any]


def cpu_count() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Process(Protocol):
    """What a `Child` needs of a `subprocess.Popen`."""

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
    """One of our modules in a process of its own. What it tells goes to a queue, each message with
    the child that sent it; None says that it has ended."""

    def __init__(
        self,
        process: Process,
        stderr: IO[bytes],
        heard: "MessageQueue",
        group_leader: bool,
    ) -> None:
        """`chatter` is where it writes what is no message. `leader`: it has a process group, and
        `kill` ends all that it started as well."""
        self._process, self._stderr, self._group_leader = process, stderr, group_leader
        threading.Thread(target=self._read_messages, args=(heard,), daemon=True).start()

    @classmethod
    def start(
        cls,
        module: str,
        messages: "MessageQueue",
        environment: dict[str, str] | None = None,
        group_leader: bool = False,
    ) -> "Child":
        """`more` is added to its `environment`; a `leader` gets a process group."""
        disable_dumping()
        group_leader = group_leader and os.name == "posix"
        chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        process = subprocess.Popen(  # noqa: S603 - our own module on our own interpreter
            module_command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            env=child_environment() | (environment or {}),
            # No session: Linux shares the processor among sessions first, and a render's low
            # priority would count within its own alone.
            process_group=0 if group_leader else None,
        )
        return cls(process, chatter, messages, group_leader)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, files: AllowedFiles, /, **request: object) -> None:
        """Send a request. The files of the first are all that the child can open from then on. A
        dead child is reported by the queue."""
        assert self._process.stdin
        line = json.dumps({_FILES: asdict(files), **request}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def kill(self) -> str:
        """End it, at once. Returns the last of what libraries, or a traceback, wrote: for the log,
        not for visitors."""
        if self._group_leader:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with self._stderr as chatter:
            chatter.seek(max(0, chatter.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
            return chatter.read().decode(errors="replace").strip()

    def exit_reason(self) -> str:
        """How a child ended that should not have, for a sentence about it."""
        code = self._process.wait()
        if code >= 0:
            return f"ended without a result (exit code {code})"
        name = signal.Signals(-code).name
        if name == "SIGKILL":
            return "was killed, most likely because the machine ran out of memory"
        if name == "SIGXCPU":
            return "took more processor time than any sound file needs"
        return f"crashed ({name})"

    def _read_messages(self, messages: "MessageQueue") -> None:
        assert self._process.stdout
        try:
            while line := self._process.stdout.readline(_MAX_MESSAGE_BYTES):
                messages.put((self, json.loads(line)))
        except (ValueError, RecursionError):
            # Half a line of one that was killed, or what one says that a file has taken over.
            self._process.kill()
        messages.put((self, None))


MessageQueue = queue.SimpleQueue[tuple[Child, Message | None]]
"""Where children tell."""


def once(module: str, seconds: float, files: AllowedFiles, /, **request: object) -> Message | str:
    """The one answer of a child that is asked one thing about `files`, or how it ended without: in
    a few words. Blocks for `seconds` at most."""
    heard: MessageQueue = queue.SimpleQueue()
    child = Child.start(module, heard, group_leader=True)
    try:
        child.send(files, **request)
        _, message = heard.get(timeout=seconds)
        return child.exit_reason() if message is None else message
    except queue.Empty:
        return "took too long"
    finally:
        child.kill()


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules, on our own interpreter."""
    return [sys.executable, "-P", _RUN_MODULE, module, *arguments]


def child_environment() -> dict[str, str]:
    """A child's: of this process's what it needs to start, and nothing else."""
    return {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}


# From here on: the child.


@contextlib.contextmanager
def parent_connection() -> Iterator[tuple[Iterator[Message], Callable[..., None]]]:
    """In a child: what the parent asks for, one after another, and a function that tells it.

    Before the first request is handed out this process is sealed: from then on it opens the files
    of that request and no others. Until then it has one thread only, since others would not be.
    """
    disable_dumping()
    # Libraries chatter on standard output; only our lines may go there.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)

        def tell(**message: object) -> None:
            out.write(json.dumps(message) + "\n")

        yield _requests(), tell


def _requests() -> Iterator[Message]:
    lines = _lines()
    first = json.loads(next(lines, None) or _exit_with_group())
    restrict_access(
        AllowedFiles(**{name: tuple(paths) for name, paths in first.pop(_FILES).items()})
    )
    asked: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(lines, asked), daemon=True).start()
    yield first
    yield from iter(asked.get, None)


def _receive(lines: Iterator[bytes], asked: "queue.SimpleQueue[Message]") -> None:
    """Requests to a queue. When the parent is gone, so is this process, with all it started."""
    for line in lines:
        request = json.loads(line)
        del request[_FILES]
        asked.put(request)
    _exit_with_group()


def _lines() -> Iterator[bytes]:
    """Yield the parent's writes until it is gone, read without a buffer, which a thread could hold
    locked while the process ends."""
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _exit_with_group() -> NoReturn:
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)

"""Processes of our own that speak JSON lines and never outlive who started them.

A decoder that crashes on a hostile file, or a render that is not wanted any more, takes such a
process down and nothing else. Requests go to its standard input, answers come from its standard
output. The input stays open: when it closes, the parent is gone and the child goes too.
"""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import kolbo_demo

_CHATTER_BYTES = 8192
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)

ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""Environment of a process that has a core, not the machine, to itself."""

Message = dict[str, Any]


def cores() -> int:
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
        chatter: IO[bytes],
        heard: "Heard",
        leader: bool,
    ) -> None:
        """`chatter` is where it writes what is no message. `leader`: it has a process group, and
        `kill` ends all that it started as well."""
        self._process, self._chatter, self._leader = process, chatter, leader
        threading.Thread(target=self._pump, args=(heard,), daemon=True).start()

    @classmethod
    def start(
        cls,
        module: str,
        heard: "Heard",
        more: dict[str, str] | None = None,
        leader: bool = False,
    ) -> "Child":
        """`more` is added to this process's environment; a `leader` gets a process group."""
        leader = leader and os.name == "posix"
        chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        process = subprocess.Popen(  # noqa: S603 - our own module on our own interpreter
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            env=environment() | (more or {}),
            # No session: Linux shares the processor among sessions first, and a render's low
            # priority would count within its own alone.
            process_group=0 if leader else None,
        )
        return cls(process, chatter, heard, leader)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, **request: object) -> None:
        """Send a request. A child that is dead already is told by the queue."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> str:
        """End it, at once. Returns the last of what libraries, or a traceback, wrote: for the log,
        not for visitors."""
        if self._leader:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with self._chatter as chatter:
            chatter.seek(max(0, chatter.seek(0, os.SEEK_END) - _CHATTER_BYTES))
            return chatter.read().decode(errors="replace").strip()

    def last_words(self) -> str:
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

    def _pump(self, heard: "Heard") -> None:
        assert self._process.stdout
        with contextlib.suppress(ValueError):  # half a line of one that was killed
            for line in self._process.stdout:
                heard.put((self, json.loads(line)))
        heard.put((self, None))


Heard = queue.SimpleQueue[tuple[Child, Message | None]]
"""Where children tell."""


def once(module: str, seconds: float, **request: object) -> Message | str:
    """The one answer of a child that is asked one thing, or how it ended without: in a few words.
    Blocks for `seconds` at most."""
    heard: Heard = queue.SimpleQueue()
    child = Child.start(module, heard, leader=True)
    try:
        child.ask(**request)
        _, message = heard.get(timeout=seconds)
        return child.last_words() if message is None else message
    except queue.Empty:
        return "took too long"
    finally:
        child.kill()


def environment() -> dict[str, str]:
    """A child's: this process's, with which it finds this package, without anybody's keys."""
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    root = str(Path(kolbo_demo.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")]))
    return kept


# From here on: the child.


@contextlib.contextmanager
def parent() -> Iterator[tuple[Iterator[Message], Callable[..., None]]]:
    """In a child: what the parent asks for, one after another, and a function that tells it."""
    asked: queue.SimpleQueue[Message] = queue.SimpleQueue()
    # Libraries chatter on standard output; only our lines may go there.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        threading.Thread(target=_listen, args=(asked,), daemon=True).start()

        def tell(**message: object) -> None:
            out.write(json.dumps(message) + "\n")

        yield iter(asked.get, None), tell


def _listen(asked: "queue.SimpleQueue[Message]") -> None:
    """Requests to a queue. When the parent is gone, so is this process, with all it started."""
    line = bytearray()
    # Read without a buffer, which a thread could hold locked while the process ends.
    while chunk := os.read(0, 65536):
        *lines, rest = (bytes(line) + chunk).split(b"\n")
        line = bytearray(rest)
        for whole in lines:
            asked.put(json.loads(whole))
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)

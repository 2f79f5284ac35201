"""Children forked from a process that has all they need loaded: one starts within milliseconds.

That process, the fork server, does nothing else. It has seen nobody's files, so none of its
children finds there what belongs to another, and it has one thread, so that nothing is held that a
child would wait for. It goes when who started it is gone.

On Linux only: elsewhere libraries of the system itself do not survive a fork.
"""

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from kolbo_demo.process.child import Child, MessageQueue, child_environment, module_command
from kolbo_demo.process.confinement import disable_dumping

AVAILABLE = sys.platform == "linux"
"""Elsewhere each child is started anew, and does its module's first kind of work."""
WORK = "work"
"""What a child does unless something else is asked for."""
_LONGEST = 64
"""Bytes of a request or an answer: a number in digits."""
_RUNS = -1
"""What is answered in place of how a child ended while it runs."""
_WAIT_SECONDS = 0.005
_LOST = -9
"""How a child ended of which nobody knows, since its fork server is gone: as one that was
killed."""


class ForkServer:
    """Children of one of our modules, forked from a server of their own, which is started when the
    first is wanted and again if somebody has killed it. For any thread."""

    def __init__(self, module: str, more: dict[str, str] | None = None) -> None:
        """`more` is added to their `environment`."""
        self._module, self._more = module, more
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def warm(self) -> None:
        """Start the server, if there is none, and return while it loads."""
        with self._lock:
            if AVAILABLE and not self._server:
                self._server = _Server(self._module, self._more)

    def child(self, heard: MessageQueue, work: str = WORK) -> Child:
        """A new one that does the `work` of that name, a leader of its process group. Blocks until
        a server has all loaded.

        Raises ChildProcessError where that fails.
        """
        if not AVAILABLE:
            return Child.start(self._module, heard, self._more, group_leader=True)
        with self._lock:
            if self._server:
                with contextlib.suppress(ChildProcessError):
                    return self._server.child(heard, work)
                self._server.close()
            self._server = _Server(self._module, self._more)
            return self._server.child(heard, work)

    def close(self) -> None:
        """End the server, not its children."""
        with self._lock:
            server, self._server = self._server, None
        if server:
            server.close()


class _Server:
    def __init__(self, module: str, more: dict[str, str] | None) -> None:
        self._lock = threading.Lock()
        disable_dumping()
        # Of whole messages: nobody has to look for where one ends.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module on our own interpreter
                module_command(module, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=child_environment() | (more or {}),
                pass_fds=(theirs.fileno(),),
                process_group=0,  # an interrupt from a terminal is not for it
            )

    def child(self, heard: MessageQueue, work: str) -> Child:
        chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        (asked, ask), (told, tell) = os.pipe(), os.pipe()
        try:
            pid = self._answer(work.encode(), [asked, tell, chatter.fileno()])
        except BaseException:
            os.close(ask)
            os.close(told)
            chatter.close()
            raise
        finally:
            os.close(asked)
            os.close(tell)
        return Child(_Forked(self, pid, ask, told), chatter, heard, group_leader=True)

    def outcome(self, pid: int) -> int | None:
        """The exit code of a child, as `subprocess.Popen` tells it; None while it runs. To be asked
        until it is told, and not again."""
        try:
            status = self._answer(str(pid).encode())
        except ChildProcessError:
            return _LOST
        return None if status == _RUNS else os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._control.close()

    def _answer(self, request: bytes, files: Sequence[int] = ()) -> int:
        with self._lock, contextlib.suppress(OSError):
            socket.send_fds(self._control, [request], files)
            if answer := self._control.recv(_LONGEST):
                return int(answer)
        raise ChildProcessError("the fork server is gone")


class _Forked:
    """What `Child` needs of a `subprocess.Popen`."""

    def __init__(self, server: _Server, pid: int, ask: int, told: int) -> None:
        self.pid = pid
        self.stdin, self.stdout = os.fdopen(ask, "wb"), os.fdopen(told, "rb")
        self._server = server
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self._code is None:
                self._code = self._server.outcome(self.pid)
            return self._code

    def wait(self) -> int:
        # Not there: the server has others to fork meanwhile.
        while (code := self.poll()) is None:
            time.sleep(_WAIT_SECONDS)
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


# From here on: the fork server.


def serve(work: Callable[[], object], **more: Callable[[], object]) -> None:
    """In a module's `main`, once all is loaded: `work`; or, where the command line names a socket,
    fork a child that does, whenever one is asked for there, until nobody is left to ask. `more` are
    other kinds of work that can be asked for, by name."""
    kinds = {WORK: work, **more}
    if len(sys.argv) < 2:
        work()
        return
    control = int(sys.argv[1])
    disable_dumping()  # so are its children
    gc.freeze()  # what is never looked at again stays shared with the children
    with socket.socket(fileno=control) as asked:
        while True:
            request, files, _, _ = socket.recv_fds(asked, _LONGEST, 3)
            if not request:
                return
            if files:
                answer = _forked(asked, files, kinds[request.decode()])
            else:
                # Nobody else waits for a child, so its number is not given to another before.
                ended, status = os.waitpid(int(request), os.WNOHANG)
                answer = status if ended else _RUNS
            asked.send(str(answer).encode())


def _forked(asked: socket.socket, files: list[int], work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        _do(asked, files, work)
    for file in files:
        os.close(file)
    with contextlib.suppress(OSError):  # both do it: whoever comes first
        os.setpgid(pid, pid)
    return pid


def _do(asked: socket.socket, files: list[int], work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        asked.close()
        os.setpgid(0, 0)
        for at, file in enumerate(files):
            os.dup2(file, at)
            os.close(file)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - as where a process ends by itself
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)

"""Children forked from a process that has loaded all they need: one starts within milliseconds.

That process, the fork server, does nothing else. It opens no visitor's file, so none of its
children finds another's in its memory. It has one thread, so a child inherits no lock that another
thread holds. It exits when the process that started it is gone.

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
"""Elsewhere each child is a new interpreter that runs its module's `MAIN`."""
MAIN = "main"
"""Entry point of a child unless another is requested."""
_MAX_PACKET_BYTES = 64
"""Bytes of a request, which is an entry point or a process id, or of a response, a number."""
_RUNNING = -1
"""Response in place of the exit status of a child that still runs."""
_EXIT_POLL_SECONDS = 0.005
_START_TIMEOUT_SECONDS = 120.0
"""For the server to load its libraries on a busy machine."""
_LOST = -9
"""Exit code assumed of a child whose fork server is gone: that of a killed one."""


class ForkServer:
    """Forks children of one module. The server process starts with the first child, and again if it
    was killed. Thread-safe."""

    def __init__(self, module: str, environment: dict[str, str] | None = None) -> None:
        """`environment` is added to the children's `child_environment`."""
        self._module, self._environment = module, environment
        self._lock = threading.Lock()
        self._server: _ServerProcess | None = None

    def preload(self) -> None:
        """Start the server, if there is none, and return while it loads."""
        with self._lock:
            if AVAILABLE and not self._server:
                self._server = _ServerProcess(self._module, self._environment)

    def fork(self, messages: MessageQueue, entry_point: str = MAIN) -> Child:
        """A new child that runs `entry_point`, a group leader. Blocks until a server has loaded.

        Raises ChildProcessError.
        """
        if not AVAILABLE:
            return Child.start(self._module, messages, self._environment, group_leader=True)
        with self._lock:
            if self._server:
                with contextlib.suppress(ChildProcessError):
                    return self._server.fork(messages, entry_point)
                self._server.close()
            self._server = _ServerProcess(self._module, self._environment)
            return self._server.fork(messages, entry_point)

    def close(self) -> None:
        """End the server, not its children."""
        with self._lock:
            server, self._server = self._server, None
        if server:
            server.close()


class _ServerProcess:
    def __init__(self, module: str, environment: dict[str, str] | None) -> None:
        self._lock = threading.Lock()
        disable_dumping()
        # A packet socket keeps the boundaries of messages.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_START_TIMEOUT_SECONDS)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module on our own interpreter
                module_command(module, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=child_environment() | (environment or {}),
                pass_fds=(theirs.fileno(),),
                process_group=0,  # an interrupt from a terminal is not for it
            )

    def fork(self, messages: MessageQueue, entry_point: str) -> Child:
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        (child_in, to_child), (from_child, child_out) = os.pipe(), os.pipe()
        try:
            pid = self._request(entry_point.encode(), [child_in, child_out, stderr.fileno()])
        except BaseException:
            os.close(to_child)
            os.close(from_child)
            stderr.close()
            raise
        finally:
            os.close(child_in)
            os.close(child_out)
        process = _ForkedProcess(self, pid, to_child, from_child)
        return Child(process, stderr, messages, group_leader=True)

    def exit_code(self, pid: int) -> int | None:
        """The exit code of a child, as `subprocess.Popen` has it; None while it runs. Must not be
        called again for a child whose code it has returned."""
        try:
            status = self._request(str(pid).encode())
        except ChildProcessError:
            return _LOST
        return None if status == _RUNNING else os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._control.close()

    def _request(self, request: bytes, files: Sequence[int] = ()) -> int:
        with self._lock:
            with contextlib.suppress(OSError):
                socket.send_fds(self._control, [request], files)
                if response := self._control.recv(_MAX_PACKET_BYTES):
                    return int(response)
            self._process.kill()  # a late response would be taken for that to another request
        raise ChildProcessError("the fork server is gone")


class _ForkedProcess:
    """The part of `subprocess.Popen` that `Child` uses."""

    def __init__(self, server: _ServerProcess, pid: int, to_child: int, from_child: int) -> None:
        self.pid = pid
        self.stdin, self.stdout = os.fdopen(to_child, "wb"), os.fdopen(from_child, "rb")
        self._server = server
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self._code is None:
                self._code = self._server.exit_code(self.pid)
            return self._code

    def wait(self) -> int:
        # Not in the server, which others need meanwhile.
        while (code := self.poll()) is None:
            time.sleep(_EXIT_POLL_SECONDS)
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


# From here on: the fork server.


def serve(main: Callable[[], object], **entry_points: Callable[[], object]) -> None:
    """Called by a module once all is loaded: fork a child for each request on the socket that the
    command line names, until that closes; without one, run `main` in this process. `entry_points`
    are what children can run beside `main`, by name."""
    if len(sys.argv) < 2:
        main()
        return
    entry_points[MAIN] = main
    control = int(sys.argv[1])
    disable_dumping()  # inherited by the children
    gc.freeze()  # memory that is not collected stays shared with the children
    with socket.socket(fileno=control) as connection:
        while True:
            request, files, _, _ = socket.recv_fds(connection, _MAX_PACKET_BYTES, 3)
            if not request:
                return
            if files:
                response = _fork(connection, files, entry_points[request.decode()])
            else:
                # Only this waits for children, so no process id is reused before.
                ended, status = os.waitpid(int(request), os.WNOHANG)
                response = status if ended else _RUNNING
            connection.send(str(response).encode())


def _fork(connection: socket.socket, files: list[int], run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        _run(connection, files, run)
    for file in files:
        os.close(file)
    with contextlib.suppress(OSError):  # in both processes: neither may go on before it is done
        os.setpgid(pid, pid)
    return pid


def _run(connection: socket.socket, files: list[int], run: Callable[[], object]) -> NoReturn:
    """In the child: `files` become its standard input, output and error."""
    code = 1
    try:
        connection.close()
        os.setpgid(0, 0)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        run()
        code = 0
    except BaseException:  # noqa: BLE001 - as where a process ends by itself
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)

"""A child like those that open visitors' files, which tries what a taken over decoder would try.

It is started, asked and sealed as they are; only the work differs. Each attempt answers with what
it got, or with the name of the error that refused it.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kolbo_demo.engine import phoneme_model  # noqa: F401 - as the real ones, with libraries loaded
from kolbo_demo.process import fork_server, landlock
from kolbo_demo.process.child import parent_connection
from kolbo_demo.process.confinement import limit_resources

_LIBC = ctypes.CDLL(None, use_errno=True)
_ARM = os.uname().machine == "aarch64"


def _read(path: str) -> str:
    return Path(path).read_bytes()[:64].decode(errors="replace")


def _write(path: str) -> None:
    Path(path).write_bytes(b"x")


def _called(number: int, on_arm: int, *arguments: int) -> int:
    answer = _LIBC.syscall(*map(ctypes.c_long, (on_arm if _ARM else number, *arguments)))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def _connected(family: int, kind: int, target: Any) -> None:
    with socket.socket(family, kind) as ours:
        ours.settimeout(2)
        ours.connect(target)
        ours.send(b"from the child")


def _through_a_pair(path: str) -> None:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two:
        one.sendto(b"from the child", path)


def _started(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise OSError(errno.EACCES, done.stderr[-300:])
    return done.stdout


def _by_thread(path: str) -> str:
    """From a thread that runs already, as the one that listens to the parent does."""
    outcome: list[str] = []
    other = threading.Thread(target=lambda: outcome.append(attempt("read", [path])))
    other.start()
    other.join()
    if outcome[0] in errno.errorcode.values():
        raise OSError(getattr(errno, outcome[0]), outcome[0])
    return outcome[0]


def _limited_again(name: str, limit: int) -> None:
    resource.setrlimit(getattr(resource, name), (limit, limit))


def _long_file(path: str, size: int) -> int:
    with Path(path).open("wb") as file:
        file.write(bytes(size))
    return Path(path).stat().st_size


def _say(text: str, times: int) -> None:
    """Past the protocol, on whatever leads to the parent."""
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - descriptors
        with contextlib.suppress(OSError):
            if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                left = memoryview(f"{text * times}\n".encode())
                while left:
                    left = left[os.write(number, left) :]
    time.sleep(600)


ATTEMPTS: dict[str, Callable[..., Any]] = {
    "read": _read,
    "read by a program": lambda path: _started("/bin/cat", path),
    "read by python": lambda path: _started(sys.executable, "-c", f"open({path!r})"),
    "read by a thread": _by_thread,
    "list": os.listdir,
    "write": _write,
    "append": lambda path: Path(path).open("ab").close(),
    "make": os.mkdir,
    "remove": os.unlink,
    "rename": os.rename,
    "link": os.link,
    "symlink": os.symlink,
    "fifo": os.mkfifo,
    "unix file": lambda path: _called(133, 33, 0, 0, 0) if _ARM else os.mknod(path, 0o140600),
    "change mode": lambda path: os.chmod(path, 0o777),  # noqa: PTH101
    "change owner": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "change times": os.utime,
    "set attribute": lambda path: os.setxattr(path, "user.x", b"x"),
    "truncate": lambda path: os.truncate(path, 0),
    "watch": lambda _path: _called(294, 26, 0),
    "tcp": lambda port: _connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
    "tcp6": lambda port: _connected(socket.AF_INET6, socket.SOCK_STREAM, ("::1", port)),
    "udp": lambda port: _connected(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port)),
    "unix": lambda path: _connected(socket.AF_UNIX, socket.SOCK_STREAM, path),
    "abstract": lambda name: _connected(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}"),
    "unix by a pair": _through_a_pair,
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "serve": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "ring": lambda: _called(425, 425, 1, 0),
    "signal": lambda process: os.kill(process, 0),
    "signal all": lambda: os.kill(-1, 0),
    "signal a thread": lambda process: _called(234, 131, process, process, 0),
    "signal by queue": lambda process: _called(129, 138, process, 0, 0),
    "hold": lambda process: os.pidfd_open(process),
    "signal by a pipe": lambda process: fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, process),
    "trace": lambda process: _called(101, 117, 16, process, 0, 0),
    "look into": lambda process: _called(310, 270, process, 0, 0, 0, 0, 0),
    "bound": lambda process: resource.prlimit(process, resource.RLIMIT_CORE, (0, 0)),
    "renice": lambda process: os.setpriority(os.PRIO_PROCESS, process, 19),
    "leave the group": lambda: os.setpgid(0, 0),
    "leave the session": os.setsid,
    "namespace": lambda: _called(272, 97, 0x10000000),
    "namespace by clone": lambda: _called(56, 220, 0x10000000 | 17, 0, 0, 0, 0),
    "key": lambda: _called(250, 219, 0, -3, 0),
    "shared memory": lambda: _called(29, 194, 1, 4096, 0o1600),
    "raise": _limited_again,
    "long file": _long_file,
    "environment": lambda: dict(os.environ),
    "own": lambda: Path("/proc/self/status").read_text(),
    "devices": lambda: len(os.urandom(8)) + Path("/dev/null").write_bytes(b"12345678"),
    "library": lambda: (
        __import__("wave") and __import__("kolbo_demo.engine.sync_eval.judge") and True
    ),
    "say": _say,
}


def attempt(name: str, given: list[Any]) -> Any:
    try:
        return ATTEMPTS[name](*given)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except ValueError as error:  # Python's for a limit that must not be raised
        if "limit" in str(error):
            return "EPERM"
        raise


def _work() -> None:
    limit_resources(60.0, 1024**3, file_bytes=1024**2)
    with parent_connection() as (requests, tell):
        for request in requests:
            tell(answer=attempt(request["try"], request["given"]))


def main() -> None:
    if (known := os.environ.get("TZ", "")).startswith("landlock"):  # a name that is passed on
        landlock.abi_version = lambda: int(known[-1])
    fork_server.serve(_work)


if __name__ == "__main__":
    main()

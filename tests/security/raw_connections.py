"""Servers in processes of their own with short limits, and raw sockets to attack them with."""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.waiting import wait

ROOT = Path(__file__).parents[2]
KEY = "kolbo_live_" + "5a" * 20
DESCRIPTORS = 512
HEAD_SECONDS = 1.0
IDLE_SECONDS = 1.0
PER_ADDRESS = 60
PENDING = 30
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Half: "

_LIMITS = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))
from kolbo_demo.service.http_server import ConnectionLimits
limits = ConnectionLimits(per_address={PER_ADDRESS}, pending={PENDING},
    head_seconds={HEAD_SECONDS}, idle_seconds={IDLE_SECONDS})
"""
SERVICE = f"""{_LIMITS}
from kolbo_demo import logs
from kolbo_demo.service.app import serving
from kolbo_demo.service.rate_limit import Limits
from kolbo_demo.settings import Settings
logs.configure("text")
with serving(Settings(), limits=Limits(10_000, 1_000_000), connections=limits) as service:
    print("at", service.base_url, flush=True)
    input()
"""
PAGE = f"""{_LIMITS}
import functools
import app
app.Server = functools.partial(app.Server, limits=limits)
app.main()
"""


class Attacked:
    """A server in a process, and what it wrote to its log."""

    def __init__(self, code: str, folder: Path, **environment: str) -> None:
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")
        }
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=inherited
                | {
                    "KOLBO_DATA_DIR": str(folder / "data"),
                    "KOLBO_LOCAL_API_KEY": KEY,
                    "KOLBO_TRUSTED_PROXIES": "127.0.0.1",
                    "KOLBO_ALLOWED_HOSTS": "a",
                    "GRADIO_TEMP_DIR": str(folder / "gradio"),
                    "PYTHONPATH": str(ROOT),
                    **environment,
                },
            )
        wait(lambda: self._port() or self.process.poll() is not None, 60)
        self.port = self._port()
        assert self.port, self.log()
        wait(self._answers, 60)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def connect(self, data: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
        """A connection from a loopback address that has sent `data`."""
        made = socket.create_connection(("127.0.0.1", self.port), 10, (address, 0))
        if data:
            made.sendall(data)
        return made

    def ask(self, data: bytes = HEALTH, address: str = "127.0.0.1") -> bytes:
        """All that the server answers until it closes or waits for more."""
        with self.connect(address=address) as made, contextlib.suppress(ConnectionError):
            made.sendall(data)
            return read(made)
        return b""

    def healthy_within(self) -> float:
        """Seconds that a newcomer waits for an answer."""
        begun = time.monotonic()
        with self.connect(HEALTH) as made:
            assert made.recv(4096).startswith(b"HTTP/1.1 200"), self.log()
        return time.monotonic() - begun

    def descriptors(self) -> int:
        """Number of descriptors that the process has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def stop(self) -> float:
        """SIGTERM; the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - begun

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _port(self) -> int:
        found = re.search(r"at http://[^/:]+:(\d+)", self.log())
        return int(found[1]) if found else 0

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.healthy_within() > 0
        assert self.process.poll() is None, self.log()
        return False


@contextlib.contextmanager
def attacked(code: str, folder: Path, **environment: str) -> Iterator[Attacked]:
    server = Attacked(code, folder, **environment)
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def read(made: socket.socket, seconds: float = 5.0) -> bytes:
    """All bytes until the server closes, at the latest after its keep-alive."""
    made.settimeout(seconds + 5)
    answer = b""
    with contextlib.suppress(ConnectionError):
        while data := made.recv(65536):
            answer += data
    return answer


def closed(made: Iterable[socket.socket]) -> list[socket.socket]:
    """Those that the other side closed, whether or not it answered before."""
    poll = select.poll()
    by_number = {one.fileno(): one for one in made}
    for number in by_number:
        poll.register(number, select.POLLRDHUP)
    return [by_number[number] for number, _ in poll.poll(0)]


@contextlib.contextmanager
def descriptors(limit: int) -> Iterator[None]:
    """This process may open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(limit, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

"""A caller of the service, small real files, a web server, and services in other processes."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.media import portrait_jpeg, speech_wav
from benchmarks.process_stats import command_line, process_tree
from kolbo_demo.service.app import LocalService
from kolbo_demo.service.render_worker import RENDERING_NAME
from tests.machines import s3_endpoint

__all__ = ["s3_endpoint"]

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "assets"
FINISH_SECONDS = 120


class Caller:
    """Calls one service with its key."""

    def __init__(self, base_url: str, key: str) -> None:
        self.base = base_url
        self.key = key
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["X-API-Key"] = key

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.session.get(self.base + path, timeout=30, **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        return self.session.post(self.base + path, timeout=120, **more)

    def lipsync(self, **more: Any) -> requests.Response:
        return self.post("/v1/generate/lipsync", **more)

    def start(self, **more: Any) -> str:
        reply = self.lipsync(**more)
        assert reply.status_code == 200, reply.text
        return reply.json()["generation_id"]

    def status(self, generation: str) -> dict[str, Any]:
        reply = self.get(f"/v1/generate/{generation}/status")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def cancel(self, generation: str) -> requests.Response:
        return self.post(f"/v1/generate/{generation}/cancel", json={})

    def until(self, generation: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll until `done`, seeing to it that progress never falls."""
        deadline = time.monotonic() + FINISH_SECONDS
        progress = 0.0
        while True:
            status = self.status(generation)
            assert progress <= status["progress"] <= 100
            progress = status["progress"]
            assert (progress == 100) == (status["state"] == "completed")
            if done(status):
                return status
            assert time.monotonic() < deadline, f"not in time: {status}"
            time.sleep(0.25)  # a service with default limits takes 300 polls a minute

    def finish(self, generation: str) -> dict[str, Any]:
        return self.until(generation, lambda status: status["state"] != "processing")


def root(api: Caller) -> str:
    """Where the addresses without a key are."""
    return api.base.removesuffix("/api")


def figures(api: Caller) -> dict[str, float]:
    """Prometheus's text as it would be read: a figure by name and labels."""
    reply = requests.get(f"{root(api)}/metrics", timeout=10)
    assert reply.headers["Content-Type"].startswith("text/plain")
    lines = [line for line in reply.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def api(live_service: LocalService) -> Caller:
    return Caller(live_service.base_url, live_service.api_key.get_secret_value())


def refused(reply: requests.Response, status: int, code: str) -> str:
    """Check that a reply is a refusal in both documented shapes, and return its sentence."""
    body = reply.json()
    assert (reply.status_code, body["code"]) == (status, code), reply.text
    assert body["success"] is False
    assert body["status"] is False
    assert body["error"] == body["message"]
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "Traceback" not in reply.text
    return body["error"]


@pytest.fixture(name="refused")
def _refused() -> Callable[[requests.Response, int, str], str]:
    return refused


@pytest.fixture(scope="session")
def portrait() -> bytes:
    """A small JPEG with a face."""
    return portrait_jpeg(160)


@pytest.fixture(scope="session")
def speech() -> Callable[[float], bytes]:
    """Make a WAV of real speech, so many seconds long, repeating where needed."""
    return speech_wav


@pytest.fixture
def files(portrait: bytes, speech: Callable[[float], bytes]) -> Callable[..., dict[str, Any]]:
    """The `files` of a request that works, with some fields replaced, or left out by None."""

    def make(seconds: float = 0.4, **changed: bytes | None) -> dict[str, Any]:
        fields: dict[str, bytes | None] = {"image": portrait, "audio": speech(seconds)} | changed
        return {name: (f"{name}.bin", data) for name, data in fields.items() if data is not None}

    return make


class Web:
    """A web server on localhost. `paths` maps a path to a function that answers it."""

    def __init__(self) -> None:
        paths = self.paths = dict[str, Callable[[BaseHTTPRequestHandler], None]]()
        self.requests: list[tuple[str, dict[str, str]]] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                received.append((self.path, dict(self.headers)))
                with contextlib.suppress(ConnectionError):
                    paths[self.path.split("?")[0]](self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, path: str, body: bytes, kind: str = "application/octet-stream") -> str:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

        self.paths[path] = answer
        return self.url + path

    def drip(self, path: str) -> tuple[str, threading.Event]:
        """A file of which a byte comes now and then, until the event is set."""
        over = threading.Event()

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", "1000000")
            request.end_headers()
            while not over.wait(0.2):
                request.wfile.write(b"x")

        self.paths[path] = answer
        return self.url + path, over

    def redirect(self, path: str, to: str) -> str:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", to)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.paths[path] = answer
        return self.url + path


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.server.shutdown()
    server.server.server_close()


_SERVE = """
import json, sys
from kolbo_demo.service.app import serving
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.settings import Settings
try:
    with serving(Settings()) as service:
        key = service.api_key.get_secret_value()
        print(json.dumps([service.base_url, key]), flush=True)
        sys.stdin.read()
except ServiceError as error:
    sys.exit(str(error))
"""


class OtherProcess:
    """A service with default limits in a process of its own."""

    def __init__(self, folder: Path, code: str = _SERVE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "KOLBO_DATA_DIR": str(folder),
                "KOLBO_LOCAL_API_KEY": "test-key",
                "PYTHONPATH": str(ROOT),
            },
        )

    def caller(self) -> Caller:
        assert self.process.stdout
        return Caller(*json.loads(self.process.stdout.readline()))

    def stop(self) -> tuple[int, str]:
        """Ask it to end; its exit code and what it complained of."""
        _, complaints = self.process.communicate(timeout=30)
        return self.process.returncode, complaints


@pytest.fixture
def other_process() -> Iterator[Callable[..., OtherProcess]]:
    """Start services in processes of their own; those still there are killed at the end."""
    started: list[OtherProcess] = []

    def start(*args: Any) -> OtherProcess:
        started.append(OtherProcess(*args))
        return started[-1]

    yield start
    for other in started:
        other.process.kill()
        other.process.communicate()


def alive(pid: int) -> bool:
    """Whether a process has not ended. One that nobody has taken note of yet, since its parent is
    gone and the system's own process takes its time, has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def called(pid: int) -> str:
    """What lists of processes call one; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.fixture
def renders() -> Callable[..., list[int]]:
    """The process ids of the renders that a process, or its fork server, has started and that run
    still, or of what another command line tells. One that waits for its task is none yet."""

    def find(parent: int, text: bytes | None = None) -> list[int]:
        return [
            each
            for each in process_tree(parent)[1:]
            if alive(each)
            and (text in command_line(each) if text else called(each) == RENDERING_NAME)
        ]

    return find

"""A real HTTP server on loopback that answers by script, and small media files to send to it."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kolbo_demo.client import KolboClient, Retry, Timeouts
from tests import samples

KEY = "kolbo_live_0123456789abcdef0123456789abcdef01234567"
_FRAMES = bytes(range(256)) * 400
VIDEO = struct.pack(
    ">I4s4sI8sI4s", 24, b"ftyp", b"isom", 512, b"isomiso2", 8 + len(_FRAMES), b"mdat"
)
VIDEO += _FRAMES
"""Looks like an MP4 from outside, which is all that a download asks."""


@dataclass
class Reply:
    """One answer. `json` or `body`; the faults come on top."""

    status: int = 200
    json: Any = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    """Reset the connection instead of answering, or after `cut` bytes of the body."""
    cut: int | None = None
    """Close the connection after this many bytes of the body."""
    hang: float = 0
    """Seconds to wait before answering, or after `cut` bytes of the body."""
    drip: float = 0
    """Seconds between single bytes of the body."""
    read: int | None = None
    """Read only so many bytes of the request, then answer or drop."""
    endless: bool = False
    """Send zeros for as long as they are taken."""
    ranges: bool = False
    """Give the part of the body that `Range` asks for, if `If-Range` names its `ETag`."""
    unsized: bool = False
    """Say no length: the body ends where the connection does, as in HTTP/1.0."""


def running(progress: Any = None, **more: Any) -> dict[str, Any]:
    """The status of a generation that is not finished."""
    return {"success": True, "state": "processing", "progress": progress, **more}


HTML = Reply(body=b"<html><h1>Just a moment...</h1></html>", headers={"Content-Type": "text/html"})
BROKEN_JSON = Reply(body=b'{"success": true, "state": "proc')
GATEWAY = Reply(502, body=b"<html>502 Bad Gateway</html>", headers={"Content-Type": "text/html"})
TEMPORARY = {
    "reset": Reply(drop=True),
    "silent": Reply(hang=1),
    "cut short": Reply(json=running(5), cut=9),
    "reset half-way": Reply(json=running(5), cut=9, drop=True),
    "HTML": HTML,
    "truncated JSON": BROKEN_JSON,
    "a list": Reply(json=[]),
    "empty": Reply(body=b""),
    "gateway": GATEWAY,
    **{
        str(status): Reply(status, {"success": False, "error": "Later", "code": "X"})
        for status in (408, 425, 429, 500, 502, 503, 504, 522, 524)
    },
}
"""Faults after which a request is repeated, by name."""


@dataclass
class Received:
    """One request as it came."""

    method: str
    path: str
    """With the query."""
    headers: Message
    body: bytes
    """Its first megabyte."""
    length: int
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> dict[str, tuple[str | None, str | None, bytes]]:
        """A multipart body: name -> (file name, content type, content)."""
        from email.parser import BytesParser

        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head + self.body)
        found = {}
        for part in message.get_payload():
            assert isinstance(part, Message)
            name = part.get_param("name", header="Content-Disposition")
            typed = part.get_content_type() if part["Content-Type"] else None
            assert name not in found, f"{name} came twice"
            found[name] = (part.get_filename(), typed, part.get_payload(decode=True))
        return found


class Scripted(ThreadingHTTPServer):
    """Answers each `METHOD /path` with its replies in turn; the last one stays."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: dict[str, list[Reply]] = {}
        self.requests: list[Received] = []
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_address[1]}"
        if tls:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.base_url = f"{self.url}/api"

    def on(self, what: str, *replies: Reply) -> None:
        """Sets the replies; a path given without /api is one of the API's."""
        method, path = what.split(" ")
        self.script[f"{method} {'/api' if path.startswith('/v1') else ''}{path}"] = list(replies)

    def on_status(self, *documents: dict[str, Any] | Reply, generation: str = "lip_1") -> None:
        """Sets what the polls of a generation find."""
        replies = [doc if isinstance(doc, Reply) else Reply(json=doc) for doc in documents]
        self.on(f"GET /v1/generate/{generation}/status", *replies)

    def count(self, what: str) -> int:
        """How many requests `METHOD /path...` came."""
        method, path = what.split(" ")
        return sum(s.method == method and s.path.startswith(f"/api{path}") for s in self.requests)

    def wait_for(self, what: str) -> None:
        """Until a request `METHOD /path...` has come: a caller may give up before it is read."""
        deadline = time.monotonic() + 30
        while not self.count(what) and time.monotonic() < deadline:
            time.sleep(0.01)

    def completed(self, **result: Any) -> dict[str, Any]:
        """A completed status whose video this server has."""
        self.script.setdefault("GET /files/result.mp4", [Reply(body=VIDEO)])
        return {
            "success": True,
            "generation_id": "lip_1",
            "type": "lipsync",
            "state": "completed",
            "progress": 100,
            "result": {"urls": [f"{self.url}/files/result.mp4"], "duration": 1, **result},
        }

    def starts(self, hint: float = 0.2) -> None:
        """Accepts generations."""
        started = {
            "success": True,
            "generation_id": "lip_1",
            "type": "lipsync",
            "model": "auto",
            "credits_charged": 20,
            "poll_url": "/api/v1/generate/lip_1/status",
            "poll_interval_hint": hint,
        }
        self.on("POST /v1/generate/lipsync", Reply(json=started))


class _Handler(BaseHTTPRequestHandler):
    server: Scripted  # pyright: ignore[reportIncompatibleVariableOverride]

    def _any(self) -> None:
        path = self.path.partition("?")[0]
        replies = self.server.script.get(f"{self.command} {path}")
        reply = Reply(404, {"success": False, "error": "Not found", "code": "NOT_FOUND"})
        if replies:
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        length = int(self.headers.get("Content-Length") or 0)
        kept, left = b"", length if reply.read is None else reply.read
        while left > 0 and (piece := self.rfile.read(min(left, 65536))):
            left -= len(piece)
            kept = kept if len(kept) > 1 << 20 else kept + piece
        self.server.requests.append(
            Received(self.command, self.path, self.headers, kept, length, time.monotonic())
        )
        self.close_connection = True
        if reply.cut is None:
            time.sleep(reply.hang)
            if reply.drop:
                self._reset()
                return
        body = reply.body if reply.json is None else json.dumps(reply.json).encode()
        headers = {"Content-Type": "application/json"}
        status = reply.status
        if reply.ranges and (start := self._resumes_at(reply)):
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        if not reply.endless and not reply.unsized:
            headers["Content-Length"] = str(len(body))
        self.send_response_only(status)
        for name, value in (headers | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        while reply.endless:
            self.wfile.write(bytes(1 << 18))
        if reply.drip:
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(reply.drip)
        else:
            self.wfile.write(body[: reply.cut])
        if reply.cut is not None:
            time.sleep(reply.hang)
            if reply.drop:
                self._reset()

    def _reset(self) -> None:
        """Ends the connection the hard way, without an orderly close."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _resumes_at(self, reply: Reply) -> int:
        """The first byte asked for; 0 where the whole file is due (RFC 9110, 13.1.5)."""
        if self.headers.get("If-Range", "") not in ("", reply.headers.get("ETag")):
            return 0
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])

    do_GET = do_POST = _any  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # the client went away, or the script hung up
            super().handle()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()


def sparse_wav(path: Path, megabytes: int) -> Path:
    """A WAV of silence that takes no room on disk: 44.1 kHz, stereo, 16 bit."""
    size = megabytes * 2**20
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 2, 44100,
                       176400, 4, 16, b"data", size - 44)  # fmt: skip
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(size)
    return path


@contextmanager
def serving(scripted: Scripted) -> Iterator[Scripted]:
    """Has it answer until the block ends."""
    with scripted:
        thread = threading.Thread(
            target=scripted.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        yield scripted
        scripted.shutdown()
        thread.join()


class _FolderHandler(SimpleHTTPRequestHandler):
    log_message = _Handler.log_message


@contextmanager
def serving_folder(folder: Path) -> Iterator[int]:
    """Serves the files of a folder on loopback until the block ends; the port."""
    handler = partial(_FolderHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A scripted server, up for one test."""
    with serving(Scripted()) as scripted:
        yield scripted


_SHORT_PAUSES = Retry(first_pause=0.01, max_pause=0.04, max_retry_after=0.3)


@pytest.fixture
def client(server: Scripted) -> KolboClient:
    """A client of the scripted server."""
    return KolboClient(KEY, server.base_url)


@pytest.fixture
def quick(server: Scripted) -> KolboClient:
    """The same with short pauses, for tests with many faults."""
    return KolboClient(KEY, server.base_url, retry=_SHORT_PAUSES)


@pytest.fixture
def impatient(server: Scripted) -> KolboClient:
    """The same with short patience too, for tests in which the server hangs."""
    timeouts = Timeouts(connect=5, read=0.5, start=0.5, upload=0.5, download=20)
    return KolboClient(KEY, server.base_url, retry=_SHORT_PAUSES, timeouts=timeouts)


@pytest.fixture(scope="session")
def media_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """portrait.png, speech.wav, clip.mp4 and talking.mp4 (with sound): small, real, made here."""
    folder = tmp_path_factory.mktemp("media")
    across = np.tile(np.linspace(0, 255, 128, dtype=np.uint8), (128, 1))
    picture = np.dstack([across, across.T, np.full_like(across, 9)])
    Image.fromarray(picture).save(folder / "portrait.png")
    tone = 0.27 * np.sin(np.arange(16000, dtype=np.float32) / 12)
    samples.wav(folder / "speech.wav", tone[None], 16000)
    for name, sound in (("clip.mp4", 0.0), ("talking.mp4", 0.4)):
        samples.video(folder / name, pictures=[picture] * 10, sound=sound)
    return folder


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no address from the machine the tests run on."""
    for name in ("KOLBO_API_KEY", "KOLBO_API_URL", "KOLBO_LOCAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def portrait(media_dir: Path) -> Path:
    return media_dir / "portrait.png"


@pytest.fixture
def speech(media_dir: Path) -> Path:
    return media_dir / "speech.wav"


@pytest.fixture
def clip(media_dir: Path) -> Path:
    return media_dir / "clip.mp4"


@pytest.fixture
def talking(media_dir: Path) -> Path:
    return media_dir / "talking.mp4"

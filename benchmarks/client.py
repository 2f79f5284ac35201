"""The client against curl: rate and memory of a 100 MB upload, and how soon a result is on disk.

The server is a socket that takes bytes as fast as it can, in this process; client and curl run in
processes of their own, in turn, so that whatever else this machine does meets both.
"""

import json
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROUNDS = 7
UPLOAD_BYTES = 100_000_000
RESULT_BYTES = 20_000_000
POLL_SECONDS = (1.0, 8.0)
"""The first is what the local service hints for a short queue, the second Kolbo's own habit."""
CURL_SHARE = 0.9
"""Of curl's rate, at least."""
MEMORY_MB = 32
"""More than a small upload takes, at most."""
KEY = "kolbo_live_benchmark"
PORTRAIT = Path(__file__).parents[1] / "assets" / "portrait.jpg"

_UPLOAD = """
import re, sys, time
from pathlib import Path
from kolbo_demo.client import KolboClient
def memory(line):
    return int(re.search(rf"{line}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
key, base, portrait, short, long = sys.argv[1:]
client = KolboClient(key, base)
client.lipsync(portrait, short, on_upload=lambda *_: None)
Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
before, sent = memory("VmRSS"), []
start = time.perf_counter()
client.lipsync(portrait, long, on_upload=lambda *_: sent or sent.append(time.perf_counter()))
print(time.perf_counter() - sent[0], sent[0] - start, memory("VmHWM") - before)
"""


class _Server:
    """Enough of Kolbo's API to start a generation, watch it and fetch its result."""

    def __init__(self) -> None:
        self.done_at = 0.0
        """`time.monotonic()` from which the generation is completed."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        box = struct.pack(">I4s4sI8sI4s", 24, b"ftyp", b"isom", 512, b"isomiso2", 0, b"mdat")
        self._video = box + bytes(RESULT_BYTES - len(box))

    def serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _answer(self, connection: socket.socket) -> None:
        buffer = memoryview(bytearray(1 << 20))
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            head, _, body = head.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
            left = int(length[1]) - len(body) if length else 0
            while left > 0 and (count := connection.recv_into(buffer)):
                left -= count
            kind, answer = self._what(head.split(b" ", 2)[1].decode())
            connection.sendall(
                f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n"
                f"Content-Length: {len(answer)}\r\n\r\n".encode()
            )
            connection.sendall(answer)

    def _what(self, path: str) -> tuple[str, bytes]:
        if path.endswith("result.mp4"):
            return "video/mp4", self._video
        document: dict[str, Any] = {"success": True, "generation_id": "lip_1", "progress": 50}
        if path.endswith("/status"):
            done = time.monotonic() >= self.done_at
            document["state"] = "completed" if done else "processing"
            document["result"] = {"urls": [f"{self.base_url}/result.mp4"]}
        return "application/json", json.dumps(document).encode()


@contextmanager
def _serving() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def measure() -> dict[str, Any]:
    """Upload rates in MB/s, memory in MB, seconds from completed to on disk."""
    with tempfile.TemporaryDirectory() as folder, _serving() as server:
        short, long = Path(folder) / "short.wav", Path(folder) / "long.wav"
        _wav(short, 64_000)
        _wav(long, UPLOAD_BYTES)
        ours, looks, curls, memory = [], [], [], []
        for _ in range(ROUNDS):
            curls.append(_curl(server, long))
            seconds, look, added = _client(server, short, long)
            ours.append(seconds)
            looks.append(look)
            memory.append(added)
        ratio = statistics.median(c / o for c, o in zip(curls, ours, strict=True))
        return {
            "upload_mb": UPLOAD_BYTES / 1e6,
            "client_mb_per_s": round(UPLOAD_BYTES / 1e6 / statistics.median(ours)),
            "curl_mb_per_s": round(UPLOAD_BYTES / 1e6 / statistics.median(curls)),
            "client_over_curl": round(ratio, 2),
            "client_over_curl_target": CURL_SHARE,
            "look_at_the_files_before_s": round(statistics.median(looks), 2),
            "memory_added_mb": round(max(memory) / 2**20, 1),
            "memory_added_target_mb": MEMORY_MB,
            "result_mb": RESULT_BYTES / 1e6,
            "completed_to_disk": {
                f"poll every {poll:g} s": _latency(server, Path(folder), poll)
                for poll in POLL_SECONDS
            },
        }


def missed(figures: dict[str, Any]) -> list[str]:
    """The targets that were not met."""
    found = []
    if figures["client_over_curl"] < CURL_SHARE:
        found.append(f"an upload at {figures['client_over_curl']} of curl's rate")
    if figures["memory_added_mb"] >= MEMORY_MB:
        found.append(f"{figures['memory_added_mb']} MB more memory")
    return found


def _wav(path: Path, size: int) -> None:
    """44.1 kHz, stereo, 16 bit, of random bytes."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 2, 44100,
                       176400, 4, 16, b"data", size - 44)  # fmt: skip
    with path.open("wb") as file:
        file.write(head)
        for at in range(44, size, 1 << 20):
            file.write(random.randbytes(min(1 << 20, size - at)))


def _curl(server: _Server, long: Path) -> float:
    """Seconds. Without `Expect: 100-continue`, which would cost curl up to a second."""
    done = subprocess.run(
        [shutil.which("curl") or "curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}",
         "-H", "Expect:", "-H", f"X-API-Key: {KEY}", "-F", f"image=@{PORTRAIT}",
         "-F", f"audio=@{long}", f"{server.base_url}/v1/generate/lipsync"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return float(done.stdout)


def _client(server: _Server, short: Path, long: Path) -> tuple[float, float, int]:
    """Seconds from the first byte to the answer, seconds of looking at the files before it, and
    bytes of memory above those of a short upload."""
    words = [sys.executable, "-c", _UPLOAD, KEY, server.base_url, PORTRAIT, short, long]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    seconds, look, added = done.stdout.split()
    return float(seconds), float(look), int(added)


def _latency(server: _Server, folder: Path, poll: float) -> dict[str, float]:
    """From completed on the server to the whole file under its name, in seconds."""
    from kolbo_demo.client import KolboClient

    waited, saved = [], []
    for number in range(5):
        generation = KolboClient(KEY, server.base_url).generation("lip_1", poll)
        # Spread over the time between two polls, the first of which comes at once.
        server.done_at = time.monotonic() + poll * (0.1 + 0.2 * number)
        generation.wait()
        seen = time.monotonic()
        generation.download(folder / "result.mp4")
        waited.append(seen - server.done_at)
        saved.append(time.monotonic() - seen)
    total = [a + b for a, b in zip(waited, saved, strict=True)]
    return {
        "mean_s": round(statistics.mean(total), 2),
        "longest_s": round(max(total), 2),
        "of_which_download_s": round(statistics.median(saved), 3),
    }

"""`python app.py` in a process of its own, and what a browser is started with."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from benchmarks.process_stats import bound_to_caller

ROOT = Path(__file__).parents[2]
KEY = "kolbo_live_" + "5a" * 20
START_SECONDS = 60
STOP_SECONDS = 30
FLAGS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


@dataclass(frozen=True)
class Site:
    """A running `app.py`."""

    url: str
    home: Path
    """All that it writes: its data, Gradio's files, its log."""

    def status(self, generation_id: str) -> dict:
        """What the service itself says of a generation."""
        return requests.get(
            f"{self.url}/api/v1/generate/{generation_id}/status",
            headers={"X-API-Key": KEY},
            timeout=10,
        ).json()


@contextmanager
def serve(home: Path, **environment: str) -> Iterator[Site]:
    """The page on a free port, from another working directory than the project's. Its own service
    plays Kolbo's cloud too, with the same key. `environment` is added to what it reads.

    Raises RuntimeError where it does not start, or where its log shows a traceback in the end, and
    TimeoutExpired where an interrupt does not stop it.
    """
    log = home / "app.log"
    port = _free_port()
    found = Site(f"http://127.0.0.1:{port}", home)
    ours = {name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")}
    ours |= {
        "KOLBO_LOCAL_API_KEY": KEY,
        "KOLBO_API_URL": f"{found.url}/api",
        "KOLBO_DATA_DIR": str(home / "data"),
        "KOLBO_FETCH_ALLOW_HOSTS": "localhost",
        "GRADIO_TEMP_DIR": str(home / "gradio"),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "KOLBO_PAGE_TOKEN": "off",
        **environment,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            bound_to_caller(sys.executable, ROOT / "app.py"),
            env=ours,
            cwd=home,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(found, process, log)
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):  # it did not start, which is raised
            os.killpg(process.pid, signal.SIGINT)  # as a terminal tells all that run in it
        process.wait(STOP_SECONDS)
    said = log.read_text(errors="replace")
    if "Traceback" in said or re.search("^(ERROR|CRITICAL) ", said, re.MULTILINE):
        raise RuntimeError(f"app.py met an error that nobody expected:\n{said}")


def _free_port() -> int:
    """Below those that the system gives to clients, one of which could take it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _await(site: Site, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(site.url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"app.py did not start:\n{log.read_text(errors='replace')}")

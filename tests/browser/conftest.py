"""The real page in a real browser: `python app.py` in a process of its own, and Chromium."""

import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.desk import Desk

ROOT = Path(__file__).parents[2]
KEY = "kolbo_live_" + "5a" * 20
START_SECONDS = 60
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page on a free port, from another working directory than the project's. Its own service
    plays Kolbo's cloud too, with the same key.

    One a module: the service takes ten generations a minute.
    """
    home = tmp_path_factory.mktemp("site")
    log = home / "app.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")],
            env=ours,
            cwd=home,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(found, process, log)
        yield found
    finally:
        process.terminate()
        process.wait(20)
    said = log.read_text(errors="replace")
    assert "Traceback" not in said, said


def _await(site: Site, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(site.url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"app.py did not start:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A visitor's own browser. It fails where the page asks another host than this machine's."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["microphone"]
    )
    context.set_default_timeout(20_000)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    yield context.new_page()
    context.close()
    hosts = {urlsplit(url).hostname for url in asked if url.startswith(("http", "ws"))}
    assert hosts <= {"127.0.0.1", "localhost"}


@pytest.fixture
def desk(page: Page, site: Site) -> Desk:
    """The page, open and ready."""
    return Desk.open(page, site.url)


@pytest.fixture(scope="session")
def portrait() -> Path:
    return ROOT / "assets" / "portrait.jpg"


@pytest.fixture(scope="session")
def clip() -> Path:
    return ROOT / "assets" / "clip.mp4"


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.5 seconds of speech."""
    return _speech(tmp_path_factory.mktemp("voice") / "speech.wav", 1.5)


@pytest.fixture(scope="session")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be stopped on the way."""
    return _speech(tmp_path_factory.mktemp("voice") / "long.wav", 12)


def _speech(path: Path, seconds: float) -> Path:
    with wave.open(str(ROOT / "assets" / "speech.wav")) as whole, wave.open(str(path), "wb") as cut:
        sound = whole.readframes(whole.getnframes())
        cut.setparams(whole.getparams())
        size = int(seconds * whole.getframerate()) * whole.getsampwidth() * whole.getnchannels()
        cut.writeframes((sound * (size // len(sound) + 1))[:size])
    return path


@pytest.fixture(scope="session")
def sideways(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo as a phone takes it: stored lying on its side, with a tag that says so. Upright it is
    360 wide and 480 high, and the face is at `FACE`."""
    path = tmp_path_factory.mktemp("phone") / "Ünïcode photo 'of' me 😀.jpg"
    with Image.open(portrait) as whole:
        upright = whole.convert("RGB").crop((60, 0, 420, 480))
    tags = Image.Exif()
    tags[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=tags, quality=92)
    return path


@pytest.fixture(scope="session")
def links(portrait: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a file server on this machine with `portrait.jpg` and `speech.wav`."""
    folder = tmp_path_factory.mktemp("served")
    for file in (portrait, speech):
        (folder / file.name).write_bytes(file.read_bytes())
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass

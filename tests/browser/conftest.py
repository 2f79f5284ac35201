"""The real page in a real browser."""

import functools
import http.server
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.browser import chromium
from tests.browser.desk import Desk
from tests.browser.site import FLAGS, ROOT, Site, serve
from tests.scripted import Scripted, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One a module: the service takes ten generations a minute."""
    with serve(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture(scope="module")
def cloud() -> Iterator[Scripted]:
    """Stands in for Kolbo's, for a `site` of the module's own that asks it."""
    with serving(Scripted()) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not one for all: while it is up, this thread has a running event loop that others trip on."""
    expect.set_options(timeout=20_000)
    with chromium(FLAGS) as found:
        yield found


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
def some_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 seconds: long enough to be asked in between whether to stop."""
    return _speech(tmp_path_factory.mktemp("voice") / "some.wav", 12)


@pytest.fixture(scope="session")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 seconds: long enough to be watched, and to be stopped on the way."""
    return _speech(tmp_path_factory.mktemp("voice") / "long.wav", 40)


@pytest.fixture(scope="session")
def endless_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 seconds, for what is stopped however long it takes to look at it first."""
    return _speech(tmp_path_factory.mktemp("voice") / "endless.wav", 250)


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

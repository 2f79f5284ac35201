"""What strangers put into the page stays text, and keys stay where they were typed."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from tests import scripted
from tests.browser.desk import Desk
from tests.browser.site import ROOT, Site, serve
from tests.scripted import Reply, Scripted

server = scripted.server  # a fixture

OWNER = "kolbo_live_" + "c0ffee" * 6 + "c0ff"
TYPED = "kolbo_live_" + "facade" * 6 + "faca"
LOCAL = "kolbo_live_" + "decade" * 6 + "deca"
ANY = re.compile(rb"kolbo_live_[0-9a-f]{40}")
"""These, and those that the page's own service makes for visitors."""

MARK = "<img src=x onerror=window.hit=1><b class=hit>bold</b>"
"""Shown as what it is, it does nothing."""
BREAKOUT = f"\"'><script>window.hit=1</script></pre></td>{MARK}"


@pytest.fixture
def cloud(server: Scripted) -> Scripted:
    """Kolbo's cloud, as somebody who means harm would answer in its place."""
    model = {"identifier": f"a/{BREAKOUT}", "name": BREAKOUT, "types": ["lipsync-image"],
             "credit": 1, "summary": BREAKOUT}  # fmt: skip
    server.on("GET /v1/models", Reply(json={"success": True, "models": [model], "count": 1}))
    server.starts()
    return server


@pytest.fixture
def guarded(cloud: Scripted, tmp_path: Path) -> Iterator[Site]:
    environment = {
        "KOLBO_API_URL": cloud.base_url,
        "KOLBO_API_KEY": OWNER,
        "KOLBO_LOCAL_API_KEY": LOCAL,
        "KOLBO_LOG": "json",
        "TMPDIR": str(tmp_path),
    }
    with serve(tmp_path, **environment) as site:
        yield site


def unharmed(page: Page) -> None:
    """Nothing of the markup has become part of the page."""
    assert page.evaluate("window.hit") is None
    assert page.locator(".hit, img[src=x]").count() == 0


def opened(page: Page, site: Site) -> Desk:
    page.goto(site.url)
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#model-note")).to_contain_text("Recommended")
    return Desk(page)


def test_markup_from_outside_is_text(
    page: Page, guarded: Site, cloud: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    desk = opened(page, guarded)
    page.click("#model input")
    page.locator("#model [role=option]").nth(1).click()
    expect(page.locator("#model-note")).to_contain_text("<b class=hit>")
    unharmed(page)

    # A link, then files of such a name.
    desk.tab("source", "Link")
    desk.write("source-url", f"http://127.0.0.1:9/{BREAKOUT.replace(' ', '%20')}.jpg")
    page.wait_for_timeout(500)
    unharmed(page)
    desk.write("source-url", "")
    picture = tmp_path / f"{MARK.replace('/', '')}.jpg"
    picture.write_bytes(portrait.read_bytes())
    voice = tmp_path / f"{MARK.replace('/', '')}.wav"
    voice.write_bytes(speech.read_bytes())
    desk.give_image(picture)
    desk.give_audio(voice)
    desk.write("prompt", BREAKOUT)

    # The API's errors: as an answer, and as the end of a generation.
    cloud.on("POST /v1/generate/lipsync",
             Reply(400, {"success": False, "error": BREAKOUT, "code": BREAKOUT}))  # fmt: skip
    desk.generate()
    assert "<b class=hit>" in desk.await_error()
    unharmed(page)
    cloud.starts()
    cloud.on_status({"success": True, "state": "failed", "error": BREAKOUT})
    desk.generate()
    expect(page.locator("#status .reason").first).to_contain_text("<b class=hit>")
    unharmed(page)

    # A result whose every word is markup.
    more = dict.fromkeys(("prompt_used", "model", "aspect_ratio", "created_at"), BREAKOUT)
    done = cloud.completed(**more, odd_field=BREAKOUT, thumbnail_url="javascript:window.hit=1")
    cloud.on_status(
        {"success": True, "state": BREAKOUT, "progress": 5}, done | {BREAKOUT: BREAKOUT}
    )
    desk.generate()
    page.locator("#status .done").first.wait_for()
    desk.unfold("details")
    expect(page.locator("#details").first).to_contain_text("<b class=hit>")
    unharmed(page)

    # And again, from what the page has kept, in a language of the visitor's making.
    page.goto(f"{guarded.url}/?lang={MARK}&id={MARK}")
    expect(page.locator("#generate")).to_be_enabled()
    desk.unfold("history")
    page.wait_for_timeout(1000)
    unharmed(page)


def processes(of: Path) -> Iterator[Path]:
    """Every process that has to do with a folder: by its environment, so children too."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(of).encode() in (folder / "environ").read_bytes():
                yield folder


class Watch(threading.Thread):
    """Looks at the arguments of all those processes, and at their children's environment."""

    def __init__(self, of: Path) -> None:
        super().__init__(daemon=True)
        self.of, self.done = of, threading.Event()
        self.arguments: set[bytes] = set()
        self.children: dict[bytes, bytes] = {}

    def run(self) -> None:
        while not self.done.wait(0.05):
            for process in processes(self.of):
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_bytes()
                    self.arguments.add(words)
                    if b"kolbo_demo." in words:
                        self.children[words] = (process / "environ").read_bytes()

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join()


def leaks(*folders: Path) -> list[str]:
    """Files that hold a key."""
    return [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and ANY.search(path.read_bytes())
    ]


def test_keys_are_nowhere(
    page: Page, guarded: Site, cloud: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with Watch(tmp_path) as watch:
        desk = opened(page, guarded)
        desk.give_image(portrait)
        desk.give_audio(speech)
        cloud.on_status(cloud.completed())
        desk.generate()  # with the owner's key, who is alone here
        page.locator("#status .done").first.wait_for()

        # With a visitor's, against an API that repeats the key in its refusal, then breaks off.
        desk.write("api-key", TYPED)
        told = {"success": False, "error": f"The key {TYPED} is wrong", "code": "X"}
        cloud.on("POST /v1/generate/lipsync", Reply(400, told))
        desk.generate()
        desk.await_error()
        cloud.starts()
        cloud.on_status({"success": True, "state": "failed", "error": f"Not with {TYPED}."})
        desk.generate()
        expect(page.locator("#status .reason").first).to_contain_text("Not with")
        cloud.on("POST /v1/generate/lipsync", Reply(drop=True))
        desk.generate()
        page.wait_for_timeout(500)

        # On the machine itself, so that its service and its children work too.
        page.locator("#backend").get_by_label("Local engine").check()
        expect(page.locator("#model-note")).to_contain_text("Recommended")
        with contextlib.suppress(Exception):  # whether the engine makes it is not the question
            desk.generate()
            page.locator("#status .done").first.wait_for(timeout=30_000)

        used = {seen.headers["X-API-Key"] for seen in cloud.requests if "/api/" in seen.path}
        assert {OWNER, TYPED} <= used, "the keys were used at all"
        pages = [page.content()]
        page.reload()
        expect(page.locator("#generate")).to_be_enabled()
        pages.append(page.content())
        kept = page.evaluate(
            """async () => JSON.stringify([
                {...localStorage}, {...sessionStorage}, document.cookie,
                await indexedDB.databases(), await caches.keys()])"""
        )
        served = [
            requests.get(f"{guarded.url}/{path}", timeout=10).text
            for path in ("", "config", "theme.css", "gradio_api/info", "api/healthz", "api/metrics",
                         "healthz", "metrics", "gradio_api/startup-events")
        ]  # fmt: skip
    for text in (*pages, kept, *served, *said, page.context.storage_state().__repr__()):
        assert not ANY.search(text.encode())
    assert not [words for words in watch.arguments if ANY.search(words)]
    assert not [words for words, told in watch.children.items() if ANY.search(told)]
    assert watch.children, "children were seen"
    assert leaks(tmp_path, ROOT / "assets") == []
    assert (guarded.home / "app.log").exists()
    assert any(path.suffix == ".sqlite" for path in (guarded.home / "data").iterdir())


@pytest.mark.parametrize("command", ["generate", "batch"])
@pytest.mark.parametrize("way", ["environment", "file", "stdin"])
def test_the_command_line_leaves_no_key(
    way: str, command: str, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts()
    told = {"success": True, "state": "failed", "error": f"Not with {TYPED}."}
    server.on_status({"success": True, "state": "processing", "progress": 1}, told)
    secret = tempfile.NamedTemporaryFile("w", suffix=".key")  # noqa: SIM115 - outside of what is searched
    secret.write(f"{TYPED}\n")
    secret.flush()
    home = tmp_path / "home"
    home.mkdir()
    clean = {name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")}
    more = {"HOME": str(home), "TMPDIR": str(tmp_path), "KOLBO_API_URL": server.base_url}
    if way == "environment":
        more["KOLBO_API_KEY"] = TYPED
    options = {"environment": [], "file": ["--api-key-file", secret.name],
               "stdin": ["--api-key-file", "-"]}[way]  # fmt: skip
    rows = tmp_path / "rows.csv"
    rows.write_text(f"source,audio\n{portrait},{speech}\n")
    words = {
        "generate": ["--source", str(portrait), "--audio", str(speech), "--output",
                     str(tmp_path / "out.mp4"), "--json"],
        "batch": [str(rows), "--output", str(tmp_path / "out")],
    }[command]  # fmt: skip
    with Watch(tmp_path) as watch:
        done = subprocess.run(
            [sys.executable, "-m", "kolbo_demo", command, *words, *options],
            input=f"{TYPED}\n" if way == "stdin" else "",
            capture_output=True,
            text=True,
            cwd=home,
            env=clean | more | {"PYTHONPATH": str(ROOT)},
            timeout=60,
        )
    secret.close()
    assert done.returncode == 1, done.stderr
    assert {seen.headers["X-API-Key"] for seen in server.requests} == {TYPED}
    assert TYPED not in done.stdout + done.stderr
    assert watch.arguments
    assert not [words for words in watch.arguments if TYPED.encode() in words]
    assert not [words for words, told in watch.children.items() if TYPED.encode() in told]
    assert leaks(tmp_path) == []

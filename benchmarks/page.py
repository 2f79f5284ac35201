"""How soon the page can be used, against a bare Gradio page of the same components.

Both pages run in processes of their own and are opened in turn in the same Chromium, each time as
by somebody who was never there, then once more. A page can be used once the drop area for a face
takes a file and the Generate button takes a click; both are there only when Gradio's scripts have
run. The bare page is made of this page's own layout, component by component, without its texts,
styles, scripts and events.

Also measured: how long the page takes to start, beside what an import of Gradio alone takes, and
what both take of a core while nobody is there.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import requests
from gradio.blocks import BlockContext
from gradio.components.api_component import Api
from gradio.layouts.form import Form
from playwright.sync_api import Browser, Page, Request
from pydantic import SecretStr

from benchmarks.browser import chromium
from benchmarks.endurance import processor_seconds
from kolbo_demo import ui
from kolbo_demo.settings import Settings

ROOT = Path(__file__).parents[1]
ROUNDS = 11
START_SECONDS = 60
TARGET = 1.5
"""Of the time that the bare page takes."""
STARTS = 5
SETTLE_SECONDS, IDLE_SECONDS = 15, 20
AFTER_MS = 1500
"""What is asked for within this time after it can be used is counted with the load."""
# Whoever is asked outside is known at once not to be there, and counted all the same.
FLAGS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

_USABLE = """
window.usable = new Promise((done) => {
  const there = () => {
    const button = document.querySelector('#generate');
    const face = document.querySelector('#source-image input[type=file]');
    if (button && !button.disabled && button.offsetParent && face) {
      requestAnimationFrame(() => setTimeout(() => done(performance.now())));
    } else requestAnimationFrame(there);
  };
  there();
});
"""
"""Milliseconds from the start of the navigation until it can be used and has been painted."""

_KEPT = ("elem_id", "choices", "lines", "max_lines", "sources", "type", "id", "min_width", "scale",
         "visible")  # fmt: skip
"""What the bare page's components have in common with ours beside their class."""


def measure() -> dict[str, Any]:
    """Every figure, with its target beside it."""
    opened = {"page": [], "bare": []}
    started = {"page": [], "import gradio": []}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(STARTS):
            with _served("app.py", Path(home)) as served:
                started["page"].append(served.start_seconds)
            started["import gradio"].append(_imported())
    with (
        tempfile.TemporaryDirectory() as home,
        _served("app.py", Path(home)) as ours,
        _served("-m", Path(home)) as bare,
    ):
        idle = {"page": _idle(ours.pid), "bare": _idle(bare.pid)}
        with chromium(FLAGS) as browser:
            for number in range(ROUNDS + 1):
                for name, url in (("page", ours.url), ("bare", bare.url)):
                    seen = _open(browser, url)
                    if number:  # the first warms the servers
                        opened[name].append(seen)
    figures = {name: _summary(seen) for name, seen in opened.items()}
    first = figures["page"]["usable_ms"] / figures["bare"]["usable_ms"]
    again = figures["page"]["again_ms"] / figures["bare"]["again_ms"]
    return {
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
        **figures,
        "ratio": round(first, 2),
        "ratio_again": round(again, 2),
        "target": f"<= {TARGET}, and no request to another host",
        "start_seconds": {n: round(statistics.median(each), 1) for n, each in started.items()},
        "idle_percent_of_a_core": idle,
    }


def missed(figures: dict[str, Any]) -> list[str]:
    """The targets that were not met."""
    found = []
    if figures["ratio"] > TARGET:
        found.append(f"usable after {figures['ratio']} times as long as the bare page")
    if outside := figures["page"]["requests_to_other_hosts"]:
        found.append(f"{outside} requests to other hosts")
    return found


def _open(browser: Browser, url: str) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.add_init_script(_USABLE)
    page = context.new_page()
    whole: list[Request] = []
    page.on("requestfinished", lambda request: whole.insert(0, request))
    seen: dict[str, float] = {"usable": _load(page, url)}
    page.wait_for_timeout(AFTER_MS)
    hosts = [urlsplit(each).hostname for each in asked if each.startswith(("http", "ws"))]
    seen["requests"] = len(hosts)
    seen["outside"] = sum(host != "127.0.0.1" for host in hosts)
    seen["kilobytes"] = sum(each.sizes()["responseBodySize"] for each in whole) / 1000
    seen["again"] = _load(page, url)
    context.close()
    return seen


def _load(page: Page, url: str) -> float:
    page.goto(url, wait_until="commit")
    return page.evaluate("window.usable")


def _summary(seen: list[dict[str, float]]) -> dict[str, float]:
    usable = sorted(each["usable"] for each in seen)
    return {
        "usable_ms": round(statistics.median(usable)),
        "fastest_ms": round(usable[0]),
        "slowest_ms": round(usable[-1]),
        "again_ms": round(statistics.median(each["again"] for each in seen)),
        "requests": round(statistics.median(each["requests"] for each in seen)),
        "kilobytes": round(statistics.median(each["kilobytes"] for each in seen)),
        "requests_to_other_hosts": round(max(each["outside"] for each in seen)),
    }


def _imported() -> float:
    """Seconds in which a Python of its own imports Gradio and does nothing with it."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.perf_counter() - begun


def _idle(pid: int) -> float:
    """What a process takes of a core while nobody asks it anything, in percent."""
    time.sleep(SETTLE_SECONDS)
    before = processor_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return round(100 * (processor_seconds(pid) - before) / IDLE_SECONDS, 1)


@dataclass(frozen=True)
class _Served:
    url: str
    pid: int
    start_seconds: float
    """From its start to its first answer."""


@contextmanager
def _served(what: str, home: Path) -> Iterator[_Served]:
    """`app.py`, or the bare page, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, str(ROOT / "app.py")]
    if what == "-m":
        words = [sys.executable, "-m", "benchmarks.page", str(port)]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")}
    ours = {
        "KOLBO_DATA_DIR": str(home / f"data-{port}"),
        "GRADIO_TEMP_DIR": str(home / f"gradio-{port}"),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    begun = time.perf_counter()
    process = subprocess.Popen(words, env=kept | ours, cwd=ROOT, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                requests.get(url, timeout=5)
            except requests.ConnectionError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
            else:
                break
        yield _Served(url, process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(30)


def _bare(port: int) -> None:
    """Serves the bare page as Gradio's guides do, until it is stopped."""
    local = ui.Local("http://127.0.0.1:9/api", SecretStr("none"))
    ours = ui.build(Settings(), local, private=True).blocks
    with gr.Blocks(analytics_enabled=False) as blocks:
        for child in ours.children:
            _like(child)
    blocks.launch(server_port=port, quiet=True, ssr_mode=False)


def _like(block: Any) -> None:
    """The same component without what this page adds to it; its children inside it."""
    given = {name: value for name, value in block.constructor_args.items() if name in _KEPT}
    if isinstance(block, Api):  # the endpoints' inputs and outputs, which nobody sees
        return
    if isinstance(block, gr.Tab | gr.Accordion):
        given["label"] = "Label"
    # Gradio puts text fields into a form by itself.
    made = nullcontext() if isinstance(block, Form) else type(block)(**given)
    if isinstance(block, BlockContext) and made:
        with made:
            for child in block.children:
                _like(child)


if __name__ == "__main__":
    _bare(int(sys.argv[1]))

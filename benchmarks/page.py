"""Time until the page is usable, against a bare Gradio page of the same components.

Both pages run in processes of their own and are opened alternately in the same Chromium, with an
empty and then a warm cache. A page is usable once the face upload and the Generate button respond,
which needs Gradio's scripts. The bare page has this page's layout, component by component, without
its texts, styles, scripts and events.

Also measured: start time of the page against an import of Gradio alone, and idle CPU of both pages.
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
from benchmarks.process_stats import cpu_seconds
from kolbo_demo import ui
from kolbo_demo.settings import Settings

ROOT = Path(__file__).parents[1]
ROUNDS = 11
START_TIMEOUT_SECONDS = 60
MAX_RATIO = 1.3
"""To the bare page."""
START_ROUNDS = 5
SETTLE_SECONDS, IDLE_SECONDS = 15, 20
LOAD_WINDOW_MS = 1500
"""Requests up to this time after the page is usable count as part of the load."""
# Other hosts fail to resolve at once; requests to them are counted all the same.
FLAGS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

_USABLE_SCRIPT = """
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
"""Milliseconds from navigation until the page is usable and painted."""

_SHARED_ARGUMENTS = (
    "elem_id", "choices", "lines", "max_lines", "sources", "type", "id", "min_width", "scale",
    "visible",
)  # fmt: skip
"""Constructor arguments that the bare page's components share with ours."""


def measure() -> dict[str, Any]:
    timings = {"page": [], "bare": []}
    start_seconds = {"page": [], "import gradio": []}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(START_ROUNDS):
            with _run_server("app.py", Path(home)) as served:
                start_seconds["page"].append(served.start_seconds)
            start_seconds["import gradio"].append(_time_import())
    with (
        tempfile.TemporaryDirectory() as home,
        _run_server("app.py", Path(home)) as ours,
        _run_server("-m", Path(home)) as bare,
    ):
        idle = {"page": _idle_percent(ours.pid), "bare": _idle_percent(bare.pid)}
        with chromium(FLAGS) as browser:
            for number in range(ROUNDS + 1):
                for name, url in (("page", ours.url), ("bare", bare.url)):
                    timing = _open(browser, url)
                    if number:  # the first warms the servers
                        timings[name].append(timing)
    figures = {name: _summarise(timing) for name, timing in timings.items()}
    first = figures["page"]["usable_ms"] / figures["bare"]["usable_ms"]
    again = figures["page"]["again_ms"] / figures["bare"]["again_ms"]
    return {
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
        **figures,
        "ratio": round(first, 2),
        "ratio_again": round(again, 2),
        "target": f"<= {MAX_RATIO}, and no request to another host",
        "start_seconds": {
            n: round(statistics.median(each), 1) for n, each in start_seconds.items()
        },
        "idle_percent_of_a_core": idle,
    }


def missed(figures: dict[str, Any]) -> list[str]:
    misses = []
    if figures["ratio"] > MAX_RATIO:
        misses.append(f"usable after {figures['ratio']} times as long as the bare page")
    if outside := figures["page"]["requests_to_other_hosts"]:
        misses.append(f"{outside} requests to other hosts")
    return misses


def _open(browser: Browser, url: str) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    urls: list[str] = []
    context.on("request", lambda request: urls.append(request.url))
    context.add_init_script(_USABLE_SCRIPT)
    page = context.new_page()
    finished: list[Request] = []
    page.on("requestfinished", lambda request: finished.insert(0, request))
    timing: dict[str, float] = {"usable": _load(page, url)}
    page.wait_for_timeout(LOAD_WINDOW_MS)
    hosts = [urlsplit(each).hostname for each in urls if each.startswith(("http", "ws"))]
    timing["requests"] = len(hosts)
    timing["outside"] = sum(host != "127.0.0.1" for host in hosts)
    timing["kilobytes"] = sum(each.sizes()["responseBodySize"] for each in finished) / 1000
    timing["again"] = _load(page, url)
    context.close()
    return timing


def _load(page: Page, url: str) -> float:
    page.goto(url, wait_until="commit")
    return page.evaluate("window.usable")


def _summarise(timings: list[dict[str, float]]) -> dict[str, float]:
    usable = sorted(each["usable"] for each in timings)
    return {
        "usable_ms": round(statistics.median(usable)),
        "fastest_ms": round(usable[0]),
        "slowest_ms": round(usable[-1]),
        "again_ms": round(statistics.median(each["again"] for each in timings)),
        "requests": round(statistics.median(each["requests"] for each in timings)),
        "kilobytes": round(statistics.median(each["kilobytes"] for each in timings)),
        "requests_to_other_hosts": round(max(each["outside"] for each in timings)),
    }


def _time_import() -> float:
    """Seconds of a Python process that imports Gradio and exits."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.perf_counter() - begun


def _idle_percent(pid: int) -> float:
    """CPU of a process without requests, in percent of a core."""
    time.sleep(SETTLE_SECONDS)
    before = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return round(100 * (cpu_seconds(pid) - before) / IDLE_SECONDS, 1)


@dataclass(frozen=True)
class _Server:
    url: str
    pid: int
    start_seconds: float
    """From process start to the first response."""


@contextmanager
def _run_server(what: str, home: Path) -> Iterator[_Server]:
    """`app.py`, or the bare page, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "app.py")]
    if what == "-m":
        command = [sys.executable, "-m", "benchmarks.page", str(port)]
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")}
    environment = {
        "KOLBO_DATA_DIR": str(home / f"data-{port}"),
        "GRADIO_TEMP_DIR": str(home / f"gradio-{port}"),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=inherited | environment, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                requests.get(url, timeout=5)
            except requests.ConnectionError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
            else:
                break
        yield _Server(url, process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(30)


def _serve_bare_page(port: int) -> None:
    """Serve the bare page as in Gradio's guides."""
    local = ui.Local("http://127.0.0.1:9/api", SecretStr("none"))
    ours = ui.build(Settings(), local, private=True).blocks
    with gr.Blocks(analytics_enabled=False) as blocks:
        for child in ours.children:
            _clone(child)
    blocks.launch(server_port=port, quiet=True, ssr_mode=False)


def _clone(block: Any) -> None:
    """Build the same component with its children, without our texts, styles and events."""
    arguments = {
        name: value for name, value in block.constructor_args.items() if name in _SHARED_ARGUMENTS
    }
    if isinstance(block, Api):  # invisible inputs and outputs of endpoints
        return
    if isinstance(block, gr.Tab | gr.Accordion):
        arguments["label"] = "Label"
    # Gradio puts text fields into a form by itself.
    context = nullcontext() if isinstance(block, Form) else type(block)(**arguments)
    if isinstance(block, BlockContext) and context:
        with context:
            for child in block.children:
                _clone(child)


if __name__ == "__main__":
    _serve_bare_page(int(sys.argv[1]))

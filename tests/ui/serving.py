"""A page on a port of its own, in a thread."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from kolbo_demo import ui
from kolbo_demo.service.hostnames import Site
from kolbo_demo.settings import Settings

START_SECONDS = 30


@contextmanager
def serving(
    settings: Settings, local: ui.Local, *, private: bool = True, site: Site | None = None
) -> Iterator[str]:
    """The page's address while it runs; `private` as in `ui.build`, `site` as in `ui.mount`."""
    app = ui.mount(FastAPI(), ui.build(settings, local, private=private), site)
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        timeout_graceful_shutdown=1,
        forwarded_allow_ips=settings.trusted_proxies,
    )
    page = uvicorn.Server(config)
    thread = threading.Thread(target=page.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not page.started:
        assert thread.is_alive(), "the page did not start"
        assert time.monotonic() < deadline, "the page did not start in time"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{page.servers[0].sockets[0].getsockname()[1]}"
    page.should_exit = page.force_exit = True
    thread.join()

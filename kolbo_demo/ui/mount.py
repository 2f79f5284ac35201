"""The page beside the service, in one FastAPI app, with Gradio's doors to the outside shut."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from gradio.utils import get_upload_folder
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.contract import MAX_FILE_BYTES
from kolbo_demo.gallery import GALLERY, ROUTE
from kolbo_demo.service.gate import Gate
from kolbo_demo.service.hostnames import Site
from kolbo_demo.service.public_url import route_of
from kolbo_demo.ui.gate import sessions
from kolbo_demo.ui.gate.event_log import log_events
from kolbo_demo.ui.gate.gradio_gate import EVENTS, UPLOAD, GradioGate, limit_work
from kolbo_demo.ui.gate.upload_quota import UploadQuota
from kolbo_demo.ui.i18n import texts
from kolbo_demo.ui.i18n.language import InLanguage
from kolbo_demo.ui.panels import gallery
from kolbo_demo.ui.storage.folders import Served
from kolbo_demo.ui.storage.quota import Quota
from kolbo_demo.ui.theme import theme

_HERE = Path(__file__).parent
_log = logging.getLogger(__name__)

_POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob: http: https:",
        "media-src 'self' data: blob: http: https:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
"""Scripts, styles, fonts and calls come from this host. Pictures and clips may also come from
elsewhere: a visitor's own link is shown by his browser."""


@dataclass(frozen=True)
class Page:
    """The Gradio page, and what serving it needs."""

    blocks: gr.Blocks
    quota: Quota
    """Of the files of visitors."""
    private: bool
    """Whether nobody but this machine's user can reach it."""
    results: Callable[[str], Served | None]
    """Finds the files of generations and batches that are served."""


def mount(app: FastAPI, page: Page, site: Site | None = None, token: str | None = None) -> FastAPI:
    """Puts the page at `/` of `app`, whose own routes go first, and the gate before all of it.

    `site` has the names under which the server answers, loopback's for a private page where it is
    left out; `token` as in `Gate`.
    """
    site = site or Site(loopback=page.private)
    limit_work(page.blocks)
    log_events()
    sessions.bound(page.blocks)
    app.mount(f"/{ROUTE}", StaticFiles(directory=GALLERY))
    gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        theme=theme(),
        i18n=texts.i18n(),
        css_paths=[_HERE / "page.css"],
        js=(_HERE / "page.js").read_text(encoding="utf-8"),
        allowed_paths=[str(path) for path in gallery.INPUTS],
        favicon_path=str(_HERE / "icon.png"),
        max_file_size=MAX_FILE_BYTES,
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        mcp_server=True,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
        root_path="",  # the gate says it in each request's scope
    )
    # Gradio checks which files an event may name only once `launch` has run, and a mounted page
    # never launches.
    page.blocks.has_launched = True
    gradio = app.routes[-1]
    assert isinstance(gradio, Mount)
    gradio.app = GradioGate(gradio.app, page.blocks, page.results)
    app.add_middleware(UploadQuota, page.quota, Path(get_upload_folder()))
    app.add_middleware(InLanguage)
    app.add_middleware(_Unheard)
    app.add_middleware(_Headers, site)
    app.add_middleware(Gate, site, private=page.private, token=token, uploads=[UPLOAD])
    return app


class _Unheard:
    """Events that are streamed to a page which has left: what goes wrong then is nobody's error.

    Gradio forgets a session twice where a page with two streams is loaded again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_of(scope) != EVENTS:
            await self._app(scope, receive, send)
            return
        left = False

        async def listening() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        try:
            await self._app(scope, listening, send)
        except Exception:
            if not left:
                raise
            _log.debug("A page left while its events were streamed", exc_info=True)


class _Headers:
    """Adds the page's security headers to every answer."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._policy = f"{_POLICY}; frame-ancestors {site.frame_ancestors}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("X-Content-Type-Options", "nosniff")
                if headers.get("Content-Type", "").startswith("text/event-stream"):
                    headers["X-Accel-Buffering"] = "no"  # else nginx holds events back
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)

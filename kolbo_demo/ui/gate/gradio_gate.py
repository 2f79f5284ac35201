"""The gate in front of the mounted Gradio app: its routes, the files it serves, its events.

Only routes that the page and `gradio_client` use are open, so what Gradio adds is shut until it is
added here. Events reach Gradio as this module writes them anew, with files of the upload folder
only.
"""

import json
import logging
import mimetypes
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.events import api
from gradio.mcp import GradioMCPServer
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.safe_file import UnsafeFileError, resolve_regular_file
from kolbo_demo.service.gate import Caller, caller_of, refusal
from kolbo_demo.service.public_url import route_of
from kolbo_demo.service.rate_limit import SlidingWindow, TooManyRequestsError
from kolbo_demo.service.request_body import replay
from kolbo_demo.ui.access import sign_in
from kolbo_demo.ui.gate.idle import QueuePolling
from kolbo_demo.ui.gate.sessions import Sessions
from kolbo_demo.ui.storage.folders import Served

_log = logging.getLogger(__name__)

UPLOAD = "/gradio_api/upload"
EVENTS = "/gradio_api/queue/data"
FILE = "/gradio_api/file="
_PROGRESS = "/gradio_api/upload_progress"

MOST_EVENTS = 32
"""Of one visitor under way or waiting. A page that loads has about ten."""
EVENTS_A_MINUTE = 600
MOST_UNHEARD = 40
"""Sessions of one visitor to which nobody listens: Gradio keeps what is to be sent to them."""
THREADS = 48
"""For the work of events, apart from those that answer everything else."""
QUEUE = 200
"""Events of all visitors that may wait."""

_NAME = r"[A-Za-z0-9_-]{1,64}"
_ROUTES = (
    (
        {"GET", "HEAD"},
        rf"/|/config/?|/favicon\.ico|/manifest\.json|/robots\.txt|/theme\.css"
        rf"|/(assets|static|svelte)/.+"
        rf"|/gradio_api/(info/?|openapi\.json|theme\.css|upload_progress)"
        rf"|/gradio_api/(queue/data|heartbeat/{_NAME}|call/(v2/)?{_NAME}/{_NAME})"
        rf"|/gradio_api/mcp(/|/schema|/sse|/http/?)?",
    ),
    (
        {"POST"},
        rf"/gradio_api/(upload|cancel|reset)/?|/gradio_api/(queue/join|call/(v2/)?{_NAME})/?"
        rf"|/gradio_api/mcp(/|/http/?|/messages/?)?",
    ),
    ({"DELETE"}, r"/gradio_api/mcp(/|/http/?)?"),
)
_JOINS = re.compile(r"/gradio_api/(queue/join|call/(v2/)?[^/]+)/?")
_SESSION = re.compile(_NAME)
_INLINE = re.compile(r"image/(?!svg)[\w.+-]+|(audio|video)/[\w.+-]+")
_NO_UPLOAD = (
    "That file is not among this page's uploads, or not any more: upload it again, and give a link "
    "in its own field."
)


class GradioGate:
    """ASGI middleware around the app that Gradio mounts."""

    def __init__(
        self,
        app: ASGIApp,
        blocks: gr.Blocks,
        results: Callable[[str], Served | None] = lambda _: None,
    ) -> None:
        """`blocks` are those of a page that has called `lay_out`; `results` finds the files
        of generations and batches by their paths, which hold a secret ticket."""
        self._app = app
        self._blocks = blocks
        self._refusing = next(index for index, event in blocks.fns.items() if event.fn is _refuse)
        self._results = results
        self._routes = (*_ROUTES, ({"GET"}, sign_in.ROUTES)) if blocks.expects_oauth else _ROUTES
        self._events = SlidingWindow(EVENTS_A_MINUTE)
        self._sessions = Sessions(blocks)
        self._listeners: dict[str, int] = {}
        """Number of streams that listen to a session."""
        self._owners: dict[str, str] = {}
        """The visitor of each session that has joined."""
        self._joining: Counter[str] = Counter()
        """Requests under way by which a session joins: Gradio knows it only after them."""
        self._polling = QueuePolling(blocks._queue)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._polling.request()
        path = route_of(scope)
        if path.startswith(FILE) and scope["method"] in {"GET", "HEAD"}:
            await self._file(path.removeprefix(FILE))(scope, receive, send)
            return
        if not any(scope["method"] in methods and re.fullmatch(routes, path)
                   for methods, routes in self._routes):  # fmt: skip
            await refusal(scope, 404, "NOT_FOUND", "Not here.")(scope, receive, send)
            return
        if path == _PROGRESS and not self._takes_one(scope):
            await refusal(scope, 429, "RATE_LIMITED", "Too many requests.")(scope, receive, send)
        elif scope["method"] == "POST" and path.rstrip("/") != UPLOAD:
            await self._posted(scope, receive, send)
        elif path == EVENTS:
            await self._listen(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _takes_one(self, scope: Scope) -> bool:
        """Whether a visitor may ask after one more upload: Gradio keeps each id for good."""
        try:
            self._events.acquire(scope["kolbo.caller"].visitor)
        except TooManyRequestsError:
            return False
        return True

    def _file(self, name: str) -> Response:
        """An upload or a result. Gradio's own route fetches addresses for its caller,
        and repeats the request's headers, a key among them, in answers to ranges."""
        if found := self._results(name):
            cache = "private, max-age=3600" if found.constant else "private, no-store"
            return FileResponse(
                found.path,
                media_type=found.media_type,
                filename=found.name,
                content_disposition_type="inline" if found.is_shown else "attachment",
                headers={"Cache-Control": cache},
            )
        try:
            path = resolve_regular_file(name, Path(get_upload_folder()))
        except UnsafeFileError:
            gone = Path(name).is_relative_to(get_upload_folder())
            return Response("Not here.", 404 if gone else 403, media_type="text/plain")
        kind = mimetypes.guess_type(path.name)[0] or ""
        inline = bool(_INLINE.fullmatch(kind))
        return FileResponse(
            path,
            media_type=kind if inline else "application/octet-stream",
            filename=path.name,
            content_disposition_type="inline" if inline else "attachment",
            headers={"Cache-Control": "private, max-age=3600"},
        )

    async def _posted(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()  # whole: the outer gate has read and bounded it
        body = message.get("body", b"")
        document: dict[str, Any] = {}
        try:
            if body.strip():
                document = self._document(scope, body)
                body = json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half of a pair of surrogates, which no file can hold
            answer = refusal(scope, 400, "INVALID_JSON", "The text holds half a character.")
            await answer(scope, receive, send)
            return
        except HTTPException as error:
            answer = refusal(scope, error.status_code, "REFUSED", error.detail)
            answer.headers.update(error.headers or {})
            await answer(scope, receive, send)
            return
        scope = _with_length(scope, len(body))
        receive = replay(body, receive)
        session = Counter([str(document.get("session_hash"))])
        self._joining += session
        try:
            if "/call/" in route_of(scope):
                await self._call(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            self._joining -= session

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the app answers, but for values that an endpoint does not take: at them it fails."""
        failed = False

        async def unless_failed(message: Message) -> None:
            nonlocal failed
            failed = failed or message.get("status") == 500
            if not failed:
                await send(message)

        try:
            await self._app(scope, receive, unless_failed)
        except Exception:
            if not failed:
                raise
            _log.info("A call of an endpoint failed", exc_info=True)
        if failed:
            sentence = "The endpoint takes other values; /gradio_api/info tells which."
            await refusal(scope, 422, "INVALID_CALL", sentence)(scope, receive, send)

    def _document(self, scope: Scope, body: bytes) -> dict[str, Any]:
        """The JSON of a request as Gradio is to read it. Raises HTTPException."""
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, "Send JSON, as application/json.")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise HTTPException(400, "The body is not valid JSON.") from None
        if not isinstance(document, dict):
            raise HTTPException(400, "The body must be a JSON object.")
        try:
            document = {name: _with_uploads_only(value) for name, value in document.items()}
        except UnsafeFileError:
            if not route_of(scope).rstrip("/").endswith("/queue/join"):
                raise HTTPException(400, _NO_UPLOAD) from None
            # The page shows what events answer, not how joining them is refused.
            session = document.get("session_hash")
            document = {"fn_index": self._refusing, "data": [], "session_hash": session}
        if _JOINS.fullmatch(route_of(scope)):
            event = self._event(scope, document)
            caller: Caller = scope["kolbo.caller"]
            self._check_share(caller, event, document.get("session_hash") or "")
        elif route_of(scope).startswith("/gradio_api/mcp"):
            self._reach_by_loopback(scope)
        return document

    def _event(self, scope: Scope, document: dict[str, Any]) -> BlockFunction:
        """The event that a request asks for. Raises HTTPException for what is no such request."""
        session = document.get("session_hash")
        if session is not None and not (isinstance(session, str) and _SESSION.fullmatch(session)):
            raise HTTPException(400, "The session's name is no name of one.")
        events, path = self._blocks.fns, route_of(scope).rstrip("/")
        if not path.endswith("/queue/join"):
            name = path.rpartition("/")[2]
            named = (each for each in events.values() if each.api_visibility == "public")
            if event := next((each for each in named if each.api_name == name), None):
                return event
            raise HTTPException(404, "There is no endpoint of that name.")
        index, data = document.get("fn_index"), document.get("data")
        if type(index) is not int or index not in events or session is None:
            raise HTTPException(404, "There is no such event; load the page again.")
        if not isinstance(data, list) or len(data) != len(events[index].inputs):
            raise HTTPException(422, "The event lacks values; load the page again.")
        return events[index]

    def _check_share(self, caller: Caller, event: BlockFunction, session: str) -> None:
        """Raises HTTPException where the caller has too many events under way, or too many in the
        group of events in which this one waits, or does not listen to what he has asked for."""
        queue = self._blocks._queue
        groups = [
            other.concurrency_id
            for other in list(queue.event_ids_to_events.values())
            if caller_of(other.request).visitor == caller.visitor
        ]
        waiting = queue.pending_messages_per_session
        self._owners = {
            name: who
            for name, who in self._owners.items()
            if name in waiting or name in self._joining
        }
        unheard = sum(
            who == caller.visitor and name not in self._listeners
            for name, who in self._owners.items()
        )
        limit = event.concurrency_limit
        most = 2 * limit if isinstance(limit, int) else MOST_EVENTS
        if self._owners.get(session, caller.visitor) != caller.visitor:
            raise HTTPException(404, "There is no such session; load the page again.")
        try:
            self._events.acquire(caller.visitor)
        except TooManyRequestsError as error:
            raise HTTPException(429, str(error), error.headers) from None
        if (
            len(groups) >= MOST_EVENTS
            or groups.count(event.concurrency_id) >= most
            or (unheard >= MOST_UNHEARD and session not in self._owners)
        ):
            raise HTTPException(
                429, "Too much of yours is under way here; wait a moment.", {"Retry-After": "5"}
            )
        if session and not caller.inner:  # Gradio's MCP server has one for all its callers
            self._owners[session] = caller.visitor
        self._sessions.note(session, caller.visitor)

    async def _listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        sessions = QueryParams(scope["query_string"]).getlist("session_hash")
        session = sessions[0] if len(sessions) == 1 else ""
        visitor = scope["kolbo.caller"].visitor
        if self._owners.get(session, visitor) != visitor:
            answer = refusal(scope, 404, "NOT_FOUND", "There is no such session.")
            await answer(scope, receive, send)
            return
        self._listeners[session] = self._listeners.get(session, 0) + 1
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            # Gradio tells a page that its session is gone, and then raises into the open stream.
            if not isinstance(error.__cause__, HTTPException):
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._listeners[session] -= 1
            if not self._listeners[session]:
                del self._listeners[session]
                self._owners.pop(session, None)

    def _reach_by_loopback(self, scope: Scope) -> None:
        """Gradio's MCP server asks the page by HTTP, and takes the address from the first request's
        Host header unless it is given one."""
        server: GradioMCPServer | None = self._blocks.mcp_server_obj
        if server is not None and server._local_url is None and scope.get("server"):
            host, port = scope["server"]
            # Not through a proxy of the environment, which would see the visitor's key.
            for name in ("NO_PROXY", "no_proxy"):
                os.environ[name] = ",".join(filter(None, [os.environ.get(name), host]))
            server._local_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def lay_out() -> None:
    """Adds the event to which the gate turns those that name files that are no uploads."""
    api(_refuse, api_visibility="private")


def _refuse() -> None:
    raise gr.Error(_NO_UPLOAD, print_exception=False)


def limit_work(blocks: gr.Blocks) -> None:
    """Gives the events of a page threads and a queue of their own. To be called before it is
    mounted."""
    blocks.max_threads = THREADS
    blocks.queue(max_size=QUEUE)
    blocks.create_limiter()


def _with_uploads_only(value: Any) -> Any:
    """The same document, each file in it an upload of this page, as Gradio writes one.

    A dictionary with a `path` is a file to Gradio's components and to ours, with its `meta` or
    without. Raises UnsafeFileError, also for an address: Gradio would fetch it whole and unbounded.
    """
    if isinstance(value, list):
        return [_with_uploads_only(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "path" not in value and "url" not in value:
        return {name: _with_uploads_only(each) for name, each in value.items()}
    path = value.get("path")
    if path is None or path == "":
        return None
    if not isinstance(path, str):
        raise UnsafeFileError(_NO_UPLOAD)
    checked = resolve_regular_file(path, Path(get_upload_folder()))
    kinds = {"orig_name": str, "mime_type": str, "size": int}
    file = {name: value[name] for name, kind in kinds.items() if isinstance(value.get(name), kind)}
    return {"path": str(checked), **file, "meta": {"_type": "gradio.FileData"}}


def _with_length(scope: Scope, length: int) -> Scope:
    headers = [(name, value) for name, value in scope["headers"]
               if name.lower() not in {b"content-length", b"transfer-encoding"}]  # fmt: skip
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}

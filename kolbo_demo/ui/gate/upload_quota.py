"""Uploads while they arrive: how many, how much, how fast.

Gradio parses an upload and names its files. Here each upload gets a folder of its own, counted by
the page's quota while it arrives and removed at once where it breaks off.
"""

import asyncio
import contextlib
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio.routes
from gradio import route_utils
from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.service.gate import TOO_MANY_MESSAGE, Caller, caller_of
from kolbo_demo.service.public_url import route_of
from kolbo_demo.service.rate_limit import ConcurrencyLimit, TooManyRequestsError
from kolbo_demo.service.request_body import discard, iter_chunks
from kolbo_demo.ui.gate.gradio_gate import UPLOAD
from kolbo_demo.ui.i18n.texts import language_of, say, speaking
from kolbo_demo.ui.storage.disk import remove
from kolbo_demo.ui.storage.quota import Quota, QuotaError, Writing, counted
from kolbo_demo.ui.storage.uploads import Uploads, parts

AT_ONCE = 4
"""Uploads of one visitor under way."""
IDLE_SECONDS = 30.0
"""Without a byte, an upload ends."""
LONGEST_SECONDS = 1800.0
"""So does one that takes longer, however steady."""
STEP_BYTES = 1024**2
"""Room is reserved in such steps."""
MOST_FIELDS = 16 * STEP_BYTES
"""Bytes of an upload that are no file's: Gradio holds them in memory."""
DRAIN_BYTES, DRAIN_SECONDS = 128 * 1024**2, 10.0
"""Of an upload that was refused, so much is read and thrown away."""

_FOLDER = "kolbo.upload"
"""Key of a request's scope: where its files go."""


class _RefusedError(Exception):
    """An upload that ends here, and how it is answered."""

    def __init__(self, status: int, sentence: str, *, more: bool = True) -> None:
        """`more` of it is to come, and can be waited for."""
        super().__init__(sentence)
        self.status = status
        self.more = more


class UploadQuota:
    """Counts what is uploaded while it arrives, and ends what is too much or too slow."""

    def __init__(self, app: ASGIApp, quota: Quota, folder: Path) -> None:
        """`folder` is Gradio's for uploads."""
        _take_folders()
        self._app = app
        self._quota = quota
        self._uploads = Uploads(folder, quota)
        self._under_way = ConcurrencyLimit(AT_ONCE, TOO_MANY_MESSAGE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or route_of(scope) != UPLOAD:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with speaking(language_of(request)):
            try:
                await self._received(scope, receive, send, caller_of(request))
            except _RefusedError as refused:
                if refused.more:
                    await discard(iter_chunks(receive), DRAIN_BYTES, DRAIN_SECONDS)
                answer = PlainTextResponse(str(refused), refused.status)
                # Of a body that is not read to its end, the rest is no next request.
                answer.headers["Connection"] = "close"
                await answer(scope, receive, send)

    async def _received(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        visitor, counts_as = caller.visitor, counted(caller)
        try:
            place = self._under_way.acquire(visitor)
        except TooManyRequestsError as error:
            raise _RefusedError(error.status, say("room.uploads", most=AT_ONCE)) from None
        with place, ExitStack() as stack:
            writing = await run_in_threadpool(self._begin, stack, counts_as)
            body = _Body(receive, writing)
            status = 0

            async def unless_refused(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                if not body.refused:
                    await send(message)

            try:
                await self._app({**scope, _FOLDER: writing.folder}, body.read, unless_refused)
            finally:
                whole = status == 200 and not body.refused
                await run_in_threadpool(_end, stack, writing.folder, whole)
        if body.refused:
            raise body.refused

    def _begin(self, stack: ExitStack, visitor: str) -> Writing:
        """A folder that is being written until the stack is closed."""
        try:
            self._quota.check(visitor)
        except QuotaError as error:
            raise _RefusedError(error.status, str(error)) from None
        folder = self._uploads.folder(self._uploads.make(visitor))
        return stack.enter_context(self._quota.writing(folder, visitor))


class _Body:
    """The body of an upload, counted and timed."""

    def __init__(self, receive: Receive, writing: Writing) -> None:
        self._receive = receive
        self._writing = writing
        self._began = time.monotonic()
        self._size = self._reserved = 0
        self.refused: _RefusedError | None = None

    async def read(self) -> Message:
        """The next message. Raises MultiPartException, by which Gradio removes its files."""
        try:
            return await self._next()
        except _RefusedError as refused:
            self.refused = refused
            raise MultiPartException(str(refused)) from None

    async def _next(self) -> Message:
        left = self._began + LONGEST_SECONDS - time.monotonic()
        try:
            async with asyncio.timeout(min(IDLE_SECONDS, left)):
                message = await self._receive()
        except TimeoutError:
            raise _RefusedError(408, say("room.slow"), more=False) from None
        if message["type"] == "http.disconnect":
            raise MultiPartException("Broken off.")
        self._size += len(message.get("body", b""))
        if self._size > self._reserved:
            step = max(STEP_BYTES, self._size - self._reserved)
            await run_in_threadpool(self._reserve, step, bool(message.get("more_body")))
        return message

    def _reserve(self, step: int, more: bool) -> None:
        files = _bytes(self._writing.folder)
        if self._size - files > MOST_FIELDS + STEP_BYTES:
            raise _RefusedError(413, say("room.fields"), more=more)
        try:
            self._writing.grow(step)
        except QuotaError as error:
            raise _RefusedError(error.status, str(error), more=more) from None
        self._reserved += step


def _bytes(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.lstat().st_size for path in folder.iterdir())
    return 0


def _end(stack: ExitStack, folder: Path, whole: bool) -> None:
    """Leaves what Gradio named of an upload that went well, and else nothing."""
    with stack:
        if whole:
            _tidy(folder)
        else:
            remove(folder)


def _tidy(folder: Path) -> None:
    if not any(path.is_dir() for path in folder.iterdir()):  # there was no file
        remove(folder)
    for path in parts(folder):  # of fields that are not `files`
        remove(path)


class _Part(route_utils.GradioUploadFile):
    """A file that is closed once it is written: an upload of a thousand holds few open."""

    async def seek(self, offset: int) -> None:  # noqa: ARG002
        """Asked for by Gradio when a file is whole. Nothing reads it from here."""
        await run_in_threadpool(self.file.close)


def _take_folders() -> None:
    """Has Gradio put each upload into the folder that its request names. Once a process."""
    routes: Any = gradio.routes
    if hasattr(routes.upload_fn, _FOLDER):
        return
    plain = routes.upload_fn

    async def upload(request: Request, _: str, *more: object, **named: object) -> object:
        folder = request.scope.get(_FOLDER)
        if folder is None:  # came by a way that counts nothing
            raise MultiPartException("Not here.")
        try:
            return await plain(request, folder, *more, **named)
        except TypeError:  # a field in the place of a file
            raise MultiPartException(say("room.fields")) from None

    setattr(upload, _FOLDER, True)
    routes.upload_fn = upload
    route_utils.GradioUploadFile = _Part

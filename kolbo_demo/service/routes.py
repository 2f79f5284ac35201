"""Kolbo's lipsync endpoints, as an app of its own to be mounted at `/api`."""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kolbo_demo.contract import (
    API_PREFIX,
    CANCELLED,
    COMPLETED,
    MAX_FILE_BYTES,
    PROCESSING,
    CancelReply,
    Credits,
    CreditsReply,
    ErrorReply,
    ModelList,
    Result,
    StartReply,
    Status,
)
from kolbo_demo.service import metrics, request_parser, result_response, thread_pool
from kolbo_demo.service.errors import ApiError
from kolbo_demo.service.job_queue import Jobs, Progress, new_id
from kolbo_demo.service.models import listed
from kolbo_demo.service.openapi import RESULT, START, answers
from kolbo_demo.service.public_url import base_of, own_base_of
from kolbo_demo.service.rate_limit import (
    UNFINISHED_AGAIN_SECONDS,
    VISITOR,
    Keys,
    Limits,
    TooManyError,
    UnderWay,
    Window,
)
from kolbo_demo.service.request_body import discard
from kolbo_demo.service.retention import Retention
from kolbo_demo.service.status_cache import Seen
from kolbo_demo.service.storage.files import thumbnail_name, video_name
from kolbo_demo.service.supervisor import Guard, unavailable

POLL_SECONDS = 1.0
"""Between polls of a generation that has the engine for itself."""
MAX_POLL_SECONDS = 8.0
UPLOAD_SECONDS = 600.0
"""For a whole start request, files included."""
UPLOAD_IDLE_SECONDS = 30.0
"""Between two parts of it."""
_DRAIN_BYTES = MAX_FILE_BYTES + 32 * 1024 * 1024
_DRAIN_SECONDS = 60
_HTTP_TEXTS = {
    HTTPStatus.NOT_FOUND: "There is no such address in this API; see Kolbo's documentation.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address takes another method; see Kolbo's documentation.",
}
_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)(, *(\d+-\d*|-\d+))*")
_FILES = {"mp4": ("video/mp4", video_name), "jpg": ("image/jpeg", thumbnail_name)}


class Api:
    """The endpoints over one `Jobs`, some keys and one set of limits."""

    def __init__(
        self,
        jobs: Jobs,
        guard: Guard,
        retention: Retention,
        keys: Keys,
        limits: Limits,
    ) -> None:
        self.jobs = jobs
        self._guard = guard
        self._retention = retention
        self._keys = keys
        self._seen = Seen(jobs.find_all)
        self._starts = Window(limits.generations)
        self._tries = Window(limits.polls)
        self._polls = Window(limits.polls)
        self._uploads = UnderWay(
            limits.uploads,
            f"You send {limits.uploads} requests at a time already; wait until one is through.",
        )
        self._unfinished = limits.unfinished

    @property
    def problem(self) -> str | None:
        """Why nothing can be started: one sentence, None when all is well."""
        return self._guard.problem

    def app(self) -> FastAPI:
        """The app to mount. Its errors are all `ErrorReply`s; nobody else's are touched."""
        app = FastAPI(
            title="Kolbo lipsync, local service",
            openapi_url="/openapi.json",
            docs_url=None,  # it would load scripts from elsewhere
            redoc_url=None,
            redirect_slashes=False,
        )
        app.include_router(self._router(), prefix=API_PREFIX)
        app.add_exception_handler(ApiError, _api_error)
        app.add_exception_handler(SQLAlchemyError, _no_database)
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(Exception, _unexpected)
        return app

    def _router(self) -> APIRouter:
        header = APIKeyHeader(name="X-API-Key", auto_error=False)

        def keyed(what: str) -> list[Any]:
            # async, like all that never blocks: else each request takes a turn of a thread
            async def check(request: Request, key: Annotated[str | None, Security(header)]) -> None:
                self._polls.take(f"{what} {_caller(self._keys.name(key), request)}")

            return [Depends(check)]

        router = APIRouter()
        account, status, cancel = keyed("account"), keyed("status"), keyed("cancel")
        router.get("/models", dependencies=account, responses=answers(ModelList))(self.models)
        router.get("/account/credits", dependencies=account, responses=answers(CreditsReply))(
            self.credits
        )
        one = "/generate/{generation}"
        router.get(f"{one}/status", dependencies=status, responses=answers(Status))(self.status)
        router.post(f"{one}/cancel", dependencies=cancel, responses=answers(CancelReply))(
            self.cancel
        )
        router.post("/generate/lipsync", responses=answers(StartReply), openapi_extra=START)(
            self.start
        )
        router.get("/results/{name}", responses=RESULT)(self.result)
        router.head("/results/{name}", include_in_schema=False)(self.result)
        return router

    async def models(
        self,
        type: str | None = None,  # noqa: A002 - the name on the wire
        provider: str | None = None,
    ) -> Response:
        """`GET /v1/models`."""
        found = listed(type, provider)
        return _reply(ModelList(models=found, count=len(found)), keep_null=True)

    async def credits(self) -> Response:
        """`GET /v1/account/credits`: nothing is charged here, so there is nothing to hold."""
        return _reply(CreditsReply(credits=Credits(total=0)))

    async def start(self, request: Request) -> Response:
        """`POST /v1/generate/lipsync`."""
        body = aiter(request.stream())
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await self._start(request, body)
        except ApiError:
            # An answer to a caller who is still sending is lost to most clients.
            with contextlib.suppress(ClientDisconnect):
                await discard(_paced(body), _DRAIN_BYTES, _DRAIN_SECONDS)
            raise
        except ClientDisconnect:
            return Response(status_code=400)  # nobody hears it
        except TimeoutError:
            raise ApiError(
                408,
                "REQUEST_TIMEOUT",
                "The upload took too long; try a faster line or a link.",
                {"Connection": "close"},
            ) from None
        except OSError as error:
            raise ApiError(
                503,
                "STORAGE_FAILED",
                f"The service cannot keep the files ({error.strerror}); try again later.",
            ) from error

    async def _start(self, request: Request, body: AsyncIterator[bytes]) -> Response:
        key = self._keys.name(request.headers.get("x-api-key"))
        self._tries.take(_caller(key, request))
        if problem := self._guard.problem:
            raise ApiError(503, "SERVICE_UNAVAILABLE", problem, {"Retry-After": "5"})
        if problem := await thread_pool.run(thread_pool.DISK, self.jobs.problem):
            raise ApiError(503, "ENGINE_UNAVAILABLE", problem)
        with self._uploads.one(key) as under_way:
            unfinished = await self._guard.write(lambda: None, self.jobs.unfinished, key)
            if unfinished + under_way > self._unfinished:
                raise TooManyError(
                    UNFINISHED_AGAIN_SECONDS,
                    f"You have {self._unfinished} unfinished generations, as many as one caller "
                    "may have; wait until one ends, or cancel one.",
                )
            stamp = self._starts.take(key)
            try:
                return await self._accept(request, body, key)
            except BaseException:
                # Refused, broken off, or failed: it does not count.
                self._starts.give_back(key, stamp)
                raise

    async def _accept(self, request: Request, body: AsyncIterator[bytes], key: str) -> Response:
        generation = new_id()
        received = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal received
            async for chunk in _paced(body):
                received += len(chunk)
                if len(chunk) > room.ahead:
                    await thread_pool.run(thread_pool.STORE, room.reserve, len(chunk))
                yield chunk
                room.written(len(chunk))

        try:
            with self._retention.upload(request_parser.length(request)) as room:
                job = await request_parser.read(
                    request, counted(), self.jobs.storage, generation, self.jobs.policy
                )
            ahead = sum(self._guard.load)
            await self._guard.write(
                lambda: self.jobs.withdraw(generation), self.jobs.submit, generation, job, key
            )
            metrics.accepted(generation)
        except BaseException:
            # Nothing of it stays.
            await self._guard.write(lambda: None, self.jobs.withdraw, generation)
            raise
        finally:
            metrics.moved("received", received)
        return _reply(
            StartReply(
                generation_id=generation,
                model=job["options"]["model"] or "auto",
                credits_charged=0,
                poll_url=f"{request.scope['root_path']}{API_PREFIX}/generate/{generation}/status",
                # Many who wait need not ask often, and share one allowance of polls.
                poll_interval_hint=min(MAX_POLL_SECONDS, POLL_SECONDS * (1 + ahead)),
            )
        )

    async def status(self, generation: str, request: Request) -> Response:
        """`GET /v1/generate/{id}/status`."""
        self._check_seen()
        progress = _known(await self._seen.get(generation))
        # The page follows its own address: a proxy's may lead nowhere from this machine.
        page = self._keys.name(request.headers.get("x-api-key")).startswith(VISITOR)
        return _reply(_status(progress, own_base_of(request) if page else base_of(request)))

    async def cancel(self, generation: str) -> Response:
        """`POST /v1/generate/{id}/cancel`."""
        self._check_seen()
        before = _known(await thread_pool.run(thread_pool.DATABASE, self.jobs.find, generation))
        if before.state != PROCESSING:
            raise _ended(before)
        after = _known(await self._guard.write(lambda: None, self.jobs.cancel, generation))
        self._seen.forget(generation)
        if after.state != CANCELLED:
            raise _ended(after)
        return _reply(CancelReply(generation_id=generation, credits_refunded=0))

    async def result(self, name: str, request: Request) -> Response:
        """`GET /v1/results/{name}`: who knows the name may see the file."""
        if not _RANGE.fullmatch(request.headers.get("range", "bytes=0-")):
            raise ApiError(400, "INVALID_RANGE", "The Range header is not a range of bytes.")
        stem, _, ending = name.partition(".")
        if ending in _FILES and len(stem) == 32 and stem.isalnum() and stem.isascii():
            media_type, storage_name = _FILES[ending]
            storage, stored = self.jobs.storage, storage_name(stem)
            if found := await thread_pool.run(
                thread_pool.STORE, result_response.find, storage, stored
            ):
                return result_response.Sent(self._retention.sending(stem), found, media_type)
        raise ApiError(
            404,
            "RESULT_NOT_FOUND",
            "There is no such result file, or not any more: results are kept for "
            f"{self._retention.hours:g} hours.",
        )

    def _check_seen(self) -> None:
        if self._guard.blind:
            raise ApiError(503, "SERVICE_UNAVAILABLE", self._guard.blind, {"Retry-After": "5"})


def _caller(key: str, request: Request) -> str:
    """Who asks: a visitor for whom the page does, else the address. `key` is the key's name."""
    if key.startswith(VISITOR):
        return key
    return request.client.host if request.client else ""


def _known(progress: Progress | None) -> Progress:
    if progress is None:
        raise ApiError(404, "GENERATION_NOT_FOUND", "There is no generation with this id.")
    return progress


def _ended(progress: Progress) -> ApiError:
    return ApiError(
        409,
        "GENERATION_ENDED",
        f"Cannot cancel: this generation is {progress.state} already.",
    )


def _status(progress: Progress, base: str) -> Status:
    status = Status(
        generation_id=progress.id,
        state=progress.state,
        progress=progress.percent,
        credits_used=0,
    )
    if progress.failure:
        status.error = progress.failure.message
        status.failure = progress.failure
    if progress.state == COMPLETED and progress.made:
        made = progress.made
        base = f"{base}/api{API_PREFIX}/"
        ratio = math.gcd(made["width"], made["height"])
        created = datetime.fromtimestamp(progress.created, UTC)
        status.result = Result(
            urls=[f"{base}{video_name(progress.file or '')}"],
            thumbnail_url=f"{base}{thumbnail_name(progress.file or '')}",
            duration=made["duration"],
            aspect_ratio=f"{made['width'] // ratio}:{made['height'] // ratio}",
            prompt_used=made.get("prompt_used", ""),
            model=made["model"],
            created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            unsynced=made.get("unsynced", []),
            notes=made.get("notes", []),
            visible_mark=made.get("visible_mark", False),
            **{k: made[k] for k in ("width", "height", "fps", "frames")},
        )
    return status


def _reply(model: BaseModel, *, keep_null: bool = False) -> Response:
    return JSONResponse(
        model.model_dump(mode="json", exclude_none=not keep_null),
        headers={"Cache-Control": "no-store"},
    )


async def _paced(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body, for as long as it goes on coming. Raises TimeoutError."""
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_SECONDS):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        yield chunk


def _refusal(error: ApiError) -> JSONResponse:
    metrics.refused(error.code, error.status)
    return JSONResponse(
        ErrorReply.of(error.code, error.message).model_dump(),
        status_code=error.status,
        headers=error.headers,
    )


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refusal(error)


async def _no_database(_: Request, __: Exception) -> Response:
    return _refusal(unavailable("fails"))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    text = _HTTP_TEXTS.get(status, f"{status.phrase}.")
    return _refusal(ApiError(status, status.name, text, error.headers))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    where = ".".join(str(part) for part in error.errors()[0]["loc"][1:])
    return _refusal(ApiError(400, "INVALID_REQUEST", f"{where} is not what it should be."))


async def _unexpected(_: Request, __: Exception) -> Response:
    return _refusal(
        ApiError(
            500,
            "GENERATION_ERROR",
            "The service failed at this request; try again, and if it fails again look at its log.",
        )
    )

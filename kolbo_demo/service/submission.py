"""Accepting a generation: limits, upload, validation, and its row in the database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from kolbo_demo.contract import API_PREFIX, MAX_FILE_BYTES, StartReply
from kolbo_demo.service import metrics, request_parser, thread_pool
from kolbo_demo.service.dependencies import Api, rate_limit_name
from kolbo_demo.service.errors import ApiError
from kolbo_demo.service.progress import new_id
from kolbo_demo.service.rate_limit import UNFINISHED_RETRY_SECONDS, TooManyRequestsError
from kolbo_demo.service.replies import json_reply
from kolbo_demo.service.request_body import discard

POLL_HINT_SECONDS = 1.0
"""Recommended polling interval of a generation that does not wait for others."""
MAX_POLL_HINT_SECONDS = 8.0
UPLOAD_TIMEOUT_SECONDS = 600.0
"""For a whole start request, files included."""
UPLOAD_IDLE_TIMEOUT_SECONDS = 30.0
"""Between two chunks of it."""
_MAX_DRAIN_BYTES = MAX_FILE_BYTES + 32 * 1024 * 1024
_DRAIN_TIMEOUT_SECONDS = 60


async def accept(api: Api, request: Request) -> Response:
    """Read a start request and enqueue its generation. Raises ApiError."""
    body = aiter(request.stream())
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_SECONDS):
            return await _accept_within_limits(api, request, body)
    except ApiError:
        # Most clients lose a response that arrives while they still send.
        with contextlib.suppress(ClientDisconnect):
            await discard(_with_idle_timeout(body), _MAX_DRAIN_BYTES, _DRAIN_TIMEOUT_SECONDS)
        raise
    except ClientDisconnect:
        return Response(status_code=400)  # never received
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


async def _accept_within_limits(api: Api, request: Request, body: AsyncIterator[bytes]) -> Response:
    caller = api.keys.authenticate(request.headers.get("x-api-key"))
    api.start_attempts.acquire(rate_limit_name(caller, request))
    if problem := api.problem:
        raise ApiError(503, "SERVICE_UNAVAILABLE", problem, {"Retry-After": "5"})
    if not api.engine_works:
        if problem := await thread_pool.run(thread_pool.DISK, api.jobs.engine_problem):
            raise ApiError(503, "ENGINE_UNAVAILABLE", problem)
        api.engine_works = True
    with api.uploads.acquire(caller) as uploads:
        stamp = api.starts.acquire(caller)
        try:
            await _check_unfinished(api, caller, uploads)
            return await _upload_and_enqueue(api, request, body, caller)
        except BaseException:
            # Requests that are refused, aborted or failed do not count.
            api.starts.release(caller, stamp)
            raise


async def _check_unfinished(api: Api, caller: str, uploads: int) -> None:
    """Raise TooManyRequestsError where a caller has too many generations and uploads under way."""
    unfinished = await api.supervisor.write(lambda: None, api.jobs.unfinished, caller)
    if unfinished + uploads > api.limits.unfinished:
        raise TooManyRequestsError(
            UNFINISHED_RETRY_SECONDS,
            f"You have {api.limits.unfinished} unfinished generations, as many as one caller may "
            "have; wait until one ends, or cancel one.",
        )


async def _upload_and_enqueue(
    api: Api, request: Request, body: AsyncIterator[bytes], caller: str
) -> Response:
    jobs, supervisor = api.jobs, api.supervisor
    generation = new_id()
    received = 0

    async def measured() -> AsyncIterator[bytes]:
        nonlocal received
        async for chunk in _with_idle_timeout(body):
            received += len(chunk)
            yield chunk

    try:
        with api.retention.upload(request_parser.content_length(request)) as reservation:
            job = await request_parser.read(
                request, measured(), jobs.storage, generation, jobs.policy, reservation
            )
        unfinished = sum(supervisor.load)
        await supervisor.write(
            lambda: jobs.withdraw(generation), jobs.submit, generation, job, caller
        )
        metrics.accepted(generation)
    except BaseException:
        await supervisor.write(lambda: None, jobs.withdraw, generation)
        raise
    finally:
        metrics.count_bytes("received", received)
    return json_reply(
        StartReply(
            generation_id=generation,
            model=job.options.model or "auto",
            credits_charged=0,
            poll_url=f"{request.scope['root_path']}{API_PREFIX}/generate/{generation}/status",
            # The page's visitors may share one client address, and so one rate limit of polls.
            poll_interval_hint=min(MAX_POLL_HINT_SECONDS, POLL_HINT_SECONDS * (1 + unfinished)),
        )
    )


async def _with_idle_timeout(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a body. Raises TimeoutError where the next one takes too long."""
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_TIMEOUT_SECONDS):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        yield chunk

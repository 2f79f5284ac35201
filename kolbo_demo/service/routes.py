"""Kolbo's lipsync endpoints, as an app to be mounted at `/api`."""

import base64
import math
import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from kolbo_demo.contract import (
    API_PREFIX,
    CANCELLED,
    PROCESSING,
    CancelReply,
    Credits,
    CreditsReply,
    Failure,
    ModelList,
    PreviewReply,
    Result,
    StartReply,
    Status,
)
from kolbo_demo.json_codec import encode
from kolbo_demo.service import result_response, submission, thread_pool
from kolbo_demo.service.auth import VISITOR_PREFIX
from kolbo_demo.service.dependencies import Api, ApiDep, Call, poll_limit
from kolbo_demo.service.errors import ApiError
from kolbo_demo.service.models import list_models
from kolbo_demo.service.openapi import RESULT_RESPONSES, START_REQUEST, responses
from kolbo_demo.service.progress import Progress
from kolbo_demo.service.public_url import public_base_url, request_base_url
from kolbo_demo.service.replies import add_error_handlers, json_reply
from kolbo_demo.service.storage.files import thumbnail_name, video_name

_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)(, *(\d+-\d*|-\d+))*")
_FILE_TYPES = {"mp4": ("video/mp4", video_name), "jpg": ("image/jpeg", thumbnail_name)}

# The docstrings of routes are their descriptions in OpenAPI.
router = APIRouter()


def create_api(api: Api) -> FastAPI:
    """The app to mount."""
    app = FastAPI(
        title="Kolbo lipsync, local service",
        openapi_url="/openapi.json",
        docs_url=None,  # would load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.api = api
    app.include_router(router, prefix=API_PREFIX)
    add_error_handlers(app)
    return app


@router.get("/models", dependencies=[poll_limit("account")], responses=responses(ModelList))
async def models(
    type: str | None = None,  # noqa: A002 - the name on the wire
    provider: str | None = None,
) -> Response:
    """`GET /v1/models`."""
    found = list_models(type, provider)
    return json_reply(ModelList(models=found, count=len(found)), keep_null=True)


@router.get(
    "/account/credits", dependencies=[poll_limit("account")], responses=responses(CreditsReply)
)
async def credits() -> Response:  # noqa: A001 - in OpenAPI
    """`GET /v1/account/credits`: nothing is charged here, so there is nothing to hold."""
    return json_reply(CreditsReply(credits=Credits(total=0)))


@router.get("/generate/{generation}/status", responses=responses(Status))
async def status(
    call: Annotated[Call, poll_limit("status")], generation: str, request: Request
) -> Response:
    """`GET /v1/generate/{id}/status`."""
    _check_readable(call.api)
    progress = _found(await call.api.statuses.get(generation))
    # The page uses the address that it called: a proxy's may not be reachable from this machine.
    from_page = call.caller.startswith(VISITOR_PREFIX)
    base = request_base_url(request) if from_page else public_base_url(request)
    return json_reply(_status(progress, base))


@router.get("/generate/{generation}/preview", responses=responses(PreviewReply))
async def preview(call: Annotated[Call, poll_limit("preview")], generation: str) -> Response:
    """`GET /v1/generate/{id}/preview`: the latest frame of a render. Not in Kolbo's API."""
    _check_readable(call.api)
    _found(await call.api.statuses.get(generation))
    picture = await thread_pool.run(
        thread_pool.DISK, call.api.jobs.storage.read_preview, generation
    )
    return json_reply(PreviewReply(jpeg=base64.b64encode(picture) if picture else None))


@router.post("/generate/{generation}/cancel", responses=responses(CancelReply))
async def cancel(call: Annotated[Call, poll_limit("cancel")], generation: str) -> Response:
    """`POST /v1/generate/{id}/cancel`."""
    api = call.api
    _check_readable(api)
    before = _found(await thread_pool.run(thread_pool.DATABASE, api.jobs.find, generation))
    if before.state != PROCESSING:
        raise _already_ended(before)
    after = _found(await api.supervisor.write(lambda: None, api.jobs.cancel, generation))
    api.statuses.invalidate(generation)
    if after.state != CANCELLED:
        raise _already_ended(after)
    return json_reply(CancelReply(generation_id=generation, credits_refunded=0))


@router.post("/generate/lipsync", responses=responses(StartReply), openapi_extra=START_REQUEST)
async def start(api: ApiDep, request: Request) -> Response:
    """`POST /v1/generate/lipsync`."""
    return await submission.accept(api, request)


@router.head("/results/{name}", include_in_schema=False)
@router.get("/results/{name}", responses=RESULT_RESPONSES)
async def result(api: ApiDep, name: str, request: Request) -> Response:
    """`GET /v1/results/{name}`: who knows the name may see the file."""
    if not _RANGE.fullmatch(request.headers.get("range", "bytes=0-")):
        raise ApiError(400, "INVALID_RANGE", "The Range header is not a range of bytes.")
    stem, _, extension = name.partition(".")
    if extension in _FILE_TYPES and len(stem) == 32 and stem.isalnum() and stem.isascii():
        media_type, storage_name = _FILE_TYPES[extension]
        file = await thread_pool.run(
            thread_pool.STORE, result_response.find, api.jobs.storage, storage_name(stem)
        )
        if file:
            return result_response.ResultResponse(api.retention.sending(stem), file, media_type)
    raise ApiError(
        404,
        "RESULT_NOT_FOUND",
        "There is no such result file, or not any more: results are kept for "
        f"{api.retention.hours:g} hours.",
    )


def _check_readable(api: Api) -> None:
    if problem := api.supervisor.read_problem:
        raise ApiError(503, "SERVICE_UNAVAILABLE", problem, {"Retry-After": "5"})


def _found(progress: Progress | None) -> Progress:
    if progress is None:
        raise ApiError(404, "GENERATION_NOT_FOUND", "There is no generation with this id.")
    return progress


def _already_ended(progress: Progress) -> ApiError:
    return ApiError(
        409,
        "GENERATION_ENDED",
        f"Cannot cancel: this generation is {progress.state} already.",
    )


def _status(progress: Progress, base_url: str) -> Status:
    status = Status(
        generation_id=progress.id,
        state=progress.state,
        progress=progress.percent,
        credits_used=0,
    )
    if progress.failure:
        status.error = progress.failure.message
        status.failure = Failure.model_validate(encode(progress.failure))
    if video := progress.video:
        base_url, job = f"{base_url}/api{API_PREFIX}/", progress.job
        ratio = math.gcd(video.width, video.height)
        created = datetime.fromtimestamp(job.created, UTC)
        status.result = Result(
            urls=[f"{base_url}{video_name(job.file_stem)}"],
            thumbnail_url=f"{base_url}{thumbnail_name(job.file_stem)}",
            aspect_ratio=f"{video.width // ratio}:{video.height // ratio}",
            created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **encode(video),
        )
    return status

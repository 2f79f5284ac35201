"""Parses a start request, JSON or multipart, to a validated job; files are streamed to storage."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from kolbo_demo.contract import MAX_FILE_BYTES, LipsyncRequest, url_kind
from kolbo_demo.json_bounds import check_json
from kolbo_demo.media import sandbox, sniff
from kolbo_demo.media.sniff import MediaError, MediaInfo
from kolbo_demo.options import Options
from kolbo_demo.service import fetch, models, thread_pool
from kolbo_demo.service.errors import ApiError, JobError, bad_request, too_large
from kolbo_demo.service.jobs import Job
from kolbo_demo.service.models import MAX_PROMPT_CHARACTERS
from kolbo_demo.service.multipart import FILE_FIELDS, TEXT_FIELDS, FormParser
from kolbo_demo.service.retention import UploadReservation
from kolbo_demo.service.storage.files import Storage, input_name

MAX_JSON_BYTES = 1024 * 1024
MAX_UPLOAD_BYTES = 2 * MAX_FILE_BYTES + MAX_JSON_BYTES
"""Two files and the text fields."""


async def read(
    request: Request,
    body: AsyncIterator[bytes],
    storage: Storage,
    generation: str,
    policy: fetch.Policy,
    reservation: UploadReservation,
) -> Job:
    """The job of a request, with its files in storage. Raises ApiError.

    A refused request may leave files, which the caller has to discard.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_length(request) > MAX_UPLOAD_BYTES:
        raise too_large("request", MAX_UPLOAD_BYTES)
    files: dict[str, str] = {}
    if content_type == b"multipart/form-data":
        form = FormParser(options.get(b"boundary", b""), storage, generation, reservation)
        fields, files = await form.read(body)
    else:
        fields = await _read_json(content_type, body)
        await thread_pool.run(thread_pool.STORE, reservation.reserve, 1)
    return await thread_pool.run(
        thread_pool.STORE, _job, fields, files, storage, generation, policy
    )


def content_length(request: Request) -> int:
    """Declared bytes of a request's body, or the maximum if undeclared."""
    header = request.headers.get("content-length", "")
    return int(header) if header.isdecimal() else MAX_UPLOAD_BYTES


async def _read_json(content_type: bytes, body: AsyncIterator[bytes]) -> dict[str, Any]:
    data = bytearray()
    async for chunk in body:
        data += chunk
        if len(data) > MAX_JSON_BYTES:
            raise too_large("JSON", MAX_JSON_BYTES)
    if not data.strip():
        return {}
    if content_type != b"application/json":
        raise ApiError(
            415,
            "UNSUPPORTED_CONTENT_TYPE",
            "Send links as application/json, or files as multipart/form-data.",
        )
    try:
        check_json(bytes(data))
    except ValueError as error:
        raise bad_request("INVALID_JSON", str(error)) from None
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise bad_request("INVALID_JSON", "The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise bad_request("INVALID_JSON", "The body must be a JSON object.")
    # null and empty text count as absent.
    return {name: fields[name] for name in TEXT_FIELDS if fields.get(name) not in (None, "")}


def _job(
    fields: dict[str, Any],
    files: dict[str, str],
    storage: Storage,
    generation: str,
    policy: fetch.Policy,
) -> Job:
    lipsync = _validated(fields)
    inputs: list[tuple[fetch.Field, str | None, str]] = [
        ("source", lipsync.source_url, "source_url, an image file or a video file"),
        ("audio", lipsync.audio_url, "audio_url or an audio file"),
    ]
    for field, link, accepted in inputs:
        given = [f for f, target in FILE_FIELDS.items() if target == field and f in files]
        if len(given) + (link is not None) > 1:
            raise bad_request(
                f"CONFLICTING_{field.upper()}",
                f"Give only one {field}: {accepted}, not two of them.",
            )
        if not given and link is None:
            raise bad_request("MISSING_FIELDS", f"The {field} is missing: give {accepted}.")
        if link is not None:
            try:
                fetch.check(link, field, policy)
            except JobError as error:
                raise bad_request(error.code, str(error)) from error
    if lipsync.prompt and len(lipsync.prompt) > MAX_PROMPT_CHARACTERS:
        raise bad_request(
            "INVALID_PROMPT", f"The prompt is over {MAX_PROMPT_CHARACTERS} characters; shorten it."
        )
    kind = url_kind(lipsync.source_url) if lipsync.source_url else None
    for name in files:
        kind = _check_file(name, storage, generation) or kind
    _check_model(lipsync.model, kind)
    return Job(Options.from_request(lipsync), lipsync.source_url, lipsync.audio_url)


def _validated(fields: dict[str, Any]) -> LipsyncRequest:
    try:
        lipsync = LipsyncRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name, kind = str(first["loc"][0]), first["type"]
        if name == "bounding_box_target":
            expected = (
                "must be [x, y], each a number from 0 to 1: "
                "where the face is in the upright picture."
            )
        elif kind.startswith("bool"):
            expected = "must be true or false."
        elif kind.startswith("string") or kind == "value_error":
            expected = "must be UTF-8 text."
        else:
            expected = f"is invalid: {first['msg']}."
        raise bad_request(f"INVALID_{name.upper()}", f"{name} {expected}") from None
    return lipsync.model_copy(update={"model": None}) if lipsync.model == "auto" else lipsync


def _check_file(name: str, storage: Storage, generation: str) -> str | None:
    """Check an uploaded file. Returns the kind of a source, None for an audio. Raises ApiError."""
    field = FILE_FIELDS[name]
    path = storage.local(input_name(generation, field))
    if not path.stat().st_size:
        raise bad_request(
            f"INVALID_{field.upper()}", f"The file in {name} is empty; choose another."
        )
    kind, format_name = sniff.sniff(path) or (None, "")
    if field == "audio":
        # A video file is accepted for its sound.
        if (other := sniff.describe_non_media(path)) or kind == "image":
            raise bad_request("INVALID_AUDIO", sniff.not_audio_message(other or "a picture"))
        if kind is None:
            _inspect(sandbox.inspect_audio, path, "INVALID_AUDIO")
        return None
    # The field may be the wrong one: an image sent as video is an image.
    if kind not in ("image", "video"):
        kind = _inspect(sandbox.inspect_source, path, "INVALID_SOURCE").kind
    if refused := sniff.UNSUPPORTED_PICTURES.get(format_name):
        raise bad_request("INVALID_SOURCE", refused)
    return kind


def _inspect(inspect: Callable[[Path], MediaInfo], path: Path, code: str) -> MediaInfo:
    """Inspect a file that its first bytes do not identify. Raises ApiError."""
    try:
        return inspect(path)
    except MediaError as error:
        raise bad_request(code, str(error)) from error


def _check_model(identifier: str | None, kind: str | None) -> None:
    if identifier is None:
        return
    model = models.find(identifier)
    if model is None:
        raise bad_request(
            "MODEL_NOT_FOUND", "Model not found. Choose one of the models that the API lists."
        )
    if model.kind != kind:
        needed = "an image" if model.kind == "image" else "a video"
        raise bad_request(
            "WRONG_MODEL_TYPE",
            f"The model {identifier} takes {needed} as source; "
            "leave the model out and the right one is chosen.",
        )

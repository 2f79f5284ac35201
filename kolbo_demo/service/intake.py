"""A start request, JSON or form, to a checked job; files go straight to storage as they arrive."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

from pydantic import ValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from kolbo_demo import media
from kolbo_demo.contract import MAX_FILE_BYTES, VIDEO_EXTENSIONS, LipsyncRequest
from kolbo_demo.service import fetch
from kolbo_demo.service.catalogue import kind_of_model
from kolbo_demo.service.errors import ApiError, JobError
from kolbo_demo.service.jobs import input_name
from kolbo_demo.service.limits import (
    MAX_FORM_PARTS,
    MAX_JSON_BYTES,
    MAX_PROMPT_CHARACTERS,
    MAX_TEXT_BYTES,
    MAX_UPLOAD_BYTES,
)
from kolbo_demo.service.storage import Storage

FILE_FIELDS = {"image": "source", "video": "source", "audio": "audio"}
"""Form field to the input that it is."""
TEXT_FIELDS = frozenset(LipsyncRequest.model_fields)


def refused(code: str, message: str) -> ApiError:
    """A request that cannot work."""
    return ApiError(400, code, message)


async def read(
    request: Request,
    body: AsyncIterator[bytes],
    storage: Storage,
    generation: str,
    policy: fetch.Policy,
) -> dict[str, Any]:
    """The job that a request asks for, its files in storage. Raises ApiError.

    A refused request may leave files: the caller discards the generation's inputs.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_UPLOAD_BYTES:
        raise _too_large("request", MAX_UPLOAD_BYTES)
    files: dict[str, str] = {}
    if content_type == b"multipart/form-data":
        form = _Form(options.get(b"boundary", b""), storage, generation)
        fields, files = await form.read(body)
    else:
        fields = await _read_json(content_type, body)
    return await run_in_threadpool(_job, fields, files, storage, generation, policy)


async def _read_json(content_type: bytes, body: AsyncIterator[bytes]) -> dict[str, Any]:
    data = bytearray()
    async for chunk in body:
        data += chunk
        if len(data) > MAX_JSON_BYTES:
            raise _too_large("JSON", MAX_JSON_BYTES)
    if not data.strip():
        return {}
    if content_type != b"application/json":
        raise ApiError(
            415,
            "UNSUPPORTED_CONTENT_TYPE",
            "Send links as application/json, or files as multipart/form-data.",
        )
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise refused("INVALID_JSON", "The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise refused("INVALID_JSON", "The body must be a JSON object.")
    # A null is as good as an absent field; so is an empty text.
    return {name: fields[name] for name in TEXT_FIELDS if fields.get(name) not in (None, "")}


def _job(
    fields: dict[str, Any],
    files: dict[str, str],
    storage: Storage,
    generation: str,
    policy: fetch.Policy,
) -> dict[str, Any]:
    asked = _validated(fields)
    inputs: list[tuple[fetch.Field, str | None, str]] = [
        ("source", asked.source_url, "source_url, an image file or a video file"),
        ("audio", asked.audio_url, "audio_url or an audio file"),
    ]
    for field, link, names in inputs:
        given = [f for f, target in FILE_FIELDS.items() if target == field and f in files]
        if len(given) + (link is not None) > 1:
            raise refused(
                f"CONFLICTING_{field.upper()}", f"Give only one {field}: {names}, not two of them."
            )
        if not given and link is None:
            raise refused("MISSING_FIELDS", f"The {field} is missing: give {names}.")
        if link is not None:
            try:
                fetch.check(link, field, policy)
            except JobError as error:
                raise refused(error.failure.code or "", str(error)) from error
    if asked.prompt and len(asked.prompt) > MAX_PROMPT_CHARACTERS:
        raise refused(
            "INVALID_PROMPT", f"The prompt is over {MAX_PROMPT_CHARACTERS} characters; shorten it."
        )
    kind = _source_kind(asked.source_url) if asked.source_url else None
    for name in files:
        kind = _check_file(name, storage, generation) or kind
    _check_model(asked.model, kind)
    return {
        "source_url": asked.source_url,
        "audio_url": asked.audio_url,
        "prompt": asked.prompt,
        "model": asked.model,
        "face": asked.bounding_box_target,
    }


def _validated(fields: dict[str, Any]) -> LipsyncRequest:
    try:
        asked = LipsyncRequest.model_validate(fields)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        if name == "bounding_box_target":
            raise refused(
                "INVALID_BOUNDING_BOX_TARGET",
                "bounding_box_target must be [x, y], each a number from 0 to 1: "
                "where the face is in the upright picture.",
            ) from None
        raise refused(f"INVALID_{name.upper()}", f"{name} must be a text.") from None
    return asked.model_copy(update={"model": None}) if asked.model == "auto" else asked


def _check_file(name: str, storage: Storage, generation: str) -> str | None:
    """Judge an uploaded file by its first bytes; the kind of a source, None for an audio."""
    field = FILE_FIELDS[name]
    path = storage.local(input_name(generation, field))
    if not path.stat().st_size:
        raise refused(f"INVALID_{field.upper()}", f"The file in {name} is empty; choose another.")
    kind = media.kind_of(path)
    if field == "audio":
        # A video file will do: its sound is taken.
        if kind not in ("audio", "video"):
            raise refused(
                "INVALID_AUDIO",
                "The file in audio is not a sound that can be read; "
                "give an MP3, WAV, M4A, OGG, FLAC or AAC file.",
            )
        return None
    # An image sent as video, or the other way round, is taken for what it is.
    if kind not in ("image", "video"):
        raise refused(
            "INVALID_SOURCE",
            f"The file in {name} is neither a picture nor a video that can be read; "
            "give a JPEG, PNG, WebP, MP4, MOV or WebM file.",
        )
    return kind


def _source_kind(link: str) -> str:
    """What Kolbo takes a link for: the path's extension decides, whatever the query says."""
    path = link.split("#")[0].split("?")[0].lower()
    return "video" if path.endswith(tuple(VIDEO_EXTENSIONS)) else "image"


def _check_model(model: str | None, kind: str | None) -> None:
    if model is None:
        return
    takes = kind_of_model(model)
    if takes is None:
        raise refused("MODEL_NOT_FOUND", "Model not found")
    if takes != kind:
        raise refused(
            "WRONG_MODEL_TYPE",
            f"The model {model} takes {'an image' if takes == 'image' else 'a video'} as source; "
            "leave the model out and the right one is chosen.",
        )


def _too_large(what: str, limit: int) -> ApiError:
    return ApiError(
        413,
        "FILE_TOO_LARGE",
        f"The {what} is over {limit // (1024 * 1024)} MB; make it smaller.",
    )


class _Form:
    """A multipart body as it arrives: known files to storage, known texts to memory."""

    def __init__(self, boundary: bytes, storage: Storage, generation: str) -> None:
        if not boundary:
            raise refused("INVALID_FORM", "The multipart boundary is missing in Content-Type.")
        self._storage = storage
        self._generation = generation
        self._texts: dict[str, bytearray] = {}
        self._files: dict[str, str] = {}
        self._parts = 0
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._take: Callable[[bytes], None] = lambda _: None
        self._file: BinaryIO | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(
                        data[start:end]
                    ),
                    "on_header_value": lambda data, start, end: self._header[1].extend(
                        data[start:end]
                    ),
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": lambda data, start, end: self._take(data[start:end]),
                    "on_part_end": self._close,
                },
            )
        except FormParserError as error:
            raise self._broken() from error

    async def read(self, body: AsyncIterator[bytes]) -> tuple[dict[str, Any], dict[str, str]]:
        """The text fields and the file fields; raises ApiError."""
        try:
            async for chunk in body:
                await run_in_threadpool(self._parser.write, chunk)
            self._parser.finalize()
        except FormParserError as error:
            raise self._broken() from error
        finally:
            self._close()
        return self._fields(), self._files

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, data in self._texts.items():
            try:
                text = data.decode()
            except UnicodeDecodeError:
                raise refused(f"INVALID_{name.upper()}", f"{name} must be UTF-8 text.") from None
            if not text:
                continue
            fields[name] = text
            if name == "bounding_box_target":
                # Lists travel as JSON text; what is none is refused with the rest of its kind.
                try:
                    fields[name] = json.loads(text)
                except (ValueError, RecursionError):
                    fields[name] = text
        return fields

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FORM_PARTS:
            raise refused("INVALID_FORM", f"The form has more than {MAX_FORM_PARTS} parts.")
        self._disposition = b""
        self._take = lambda _: None

    def _header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        name.clear()
        value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        if name in FILE_FIELDS:
            if filename is None:
                raise refused(
                    f"INVALID_{FILE_FIELDS[name].upper()}",
                    f"{name} must be a file, not a text (with curl: -F {name}=@FILE).",
                )
            if filename:  # a browser sends an empty name where nothing was chosen
                self._open(name)
        elif name in TEXT_FIELDS and filename is None:
            self._collect(name)

    def _open(self, name: str) -> None:
        if FILE_FIELDS[name] in self._files.values():
            field = FILE_FIELDS[name]
            raise refused(f"CONFLICTING_{field.upper()}", f"Give only one {field} file.")
        self._files[name] = FILE_FIELDS[name]
        file = self._file = self._storage.create(input_name(self._generation, FILE_FIELDS[name]))
        left = MAX_FILE_BYTES

        def take(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise _too_large(f"file in {name}", MAX_FILE_BYTES)
            file.write(data)

        self._take = take

    def _collect(self, name: str) -> None:
        text = self._texts[name] = bytearray()

        def take(data: bytes) -> None:
            text.extend(data)
            if len(text) > MAX_TEXT_BYTES:
                raise refused(f"INVALID_{name.upper()}", f"{name} is too long.")

        self._take = take

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    @staticmethod
    def _broken() -> ApiError:
        return refused("INVALID_FORM", "The multipart body is broken or was cut short.")

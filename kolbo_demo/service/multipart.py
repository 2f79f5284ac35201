"""Streaming parser of multipart forms: files go to storage as they arrive."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from kolbo_demo.contract import MAX_FILE_BYTES, LipsyncRequest
from kolbo_demo.json_bounds import check_json
from kolbo_demo.service import thread_pool
from kolbo_demo.service.errors import ApiError, bad_request, too_large
from kolbo_demo.service.retention import UploadReservation
from kolbo_demo.service.storage.files import Storage, input_name

MAX_TEXT_BYTES = 64 * 1024
"""Of one text field."""
MAX_FORM_PARTS = 100
FILE_FIELDS = {"image": "source", "video": "source", "audio": "audio"}
"""Input by form field."""
TEXT_FIELDS = frozenset(LipsyncRequest.model_fields)


class FormParser:
    """Streams the known files of a form to storage, and collects its known texts."""

    def __init__(
        self, boundary: bytes, storage: Storage, generation: str, reservation: UploadReservation
    ) -> None:
        if not boundary:
            raise bad_request("INVALID_FORM", "The multipart boundary is missing in Content-Type.")
        self._storage = storage
        self._generation = generation
        self._reservation = reservation
        self._texts: dict[str, bytearray] = {}
        self._files: dict[str, str] = {}
        self._parts = 0
        self._complete = False
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._on_data: Callable[[bytes], None] = lambda _: None
        self._file = ExitStack()
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
                    "on_part_data": lambda data, start, end: self._on_data(data[start:end]),
                    "on_part_end": self._file.close,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise self._invalid_form() from error

    async def read(self, body: AsyncIterator[bytes]) -> tuple[dict[str, Any], dict[str, str]]:
        """The text fields, and the input by file field. Raises ApiError."""
        with self._file:
            try:
                async for chunk in body:
                    await thread_pool.run(thread_pool.STORE, self._write, chunk)
                    self._reservation.written(len(chunk))
                self._parser.finalize()
            except FormParserError as error:
                raise self._invalid_form() from error
            if not self._complete:
                raise self._invalid_form()
        return self._fields(), self._files

    def _write(self, chunk: bytes) -> None:
        if len(chunk) > self._reservation.unwritten:
            self._reservation.reserve(len(chunk))
        self._parser.write(chunk)

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, data in self._texts.items():
            # Invalid UTF-8 is refused by the validation that follows.
            text = data.decode(errors="surrogateescape")
            if not text:
                continue
            fields[name] = text
            if name == "bounding_box_target":
                # A list is JSON text; anything else is refused by the validation that follows.
                try:
                    check_json(bytes(data))
                    fields[name] = json.loads(text)
                except (ValueError, RecursionError):
                    fields[name] = text
        return fields

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FORM_PARTS:
            raise bad_request("INVALID_FORM", f"The form has more than {MAX_FORM_PARTS} parts.")
        self._disposition = b""
        self._on_data = lambda _: None

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
                raise bad_request(
                    f"INVALID_{FILE_FIELDS[name].upper()}",
                    f"{name} must be a file, not a text (with curl: -F {name}=@FILE).",
                )
            if filename:  # browsers send an empty name if no file is chosen
                self._open(name)
        elif name in TEXT_FIELDS and filename is None:
            self._collect(name)

    def _open(self, name: str) -> None:
        if FILE_FIELDS[name] in self._files.values():
            field = FILE_FIELDS[name]
            raise bad_request(f"CONFLICTING_{field.upper()}", f"Give only one {field} file.")
        self._files[name] = FILE_FIELDS[name]
        target = input_name(self._generation, FILE_FIELDS[name])
        file = self._file.enter_context(self._storage.create(target))
        free = MAX_FILE_BYTES

        def on_data(data: bytes) -> None:
            nonlocal free
            free -= len(data)
            if free < 0:
                raise too_large(f"file in {name}", MAX_FILE_BYTES)
            file.write(data)

        self._on_data = on_data

    def _collect(self, name: str) -> None:
        text = self._texts[name] = bytearray()

        def on_data(data: bytes) -> None:
            text.extend(data)
            if len(text) > MAX_TEXT_BYTES:
                raise bad_request(f"INVALID_{name.upper()}", f"{name} is too long.")

        self._on_data = on_data

    def _end(self) -> None:
        self._complete = True

    @staticmethod
    def _invalid_form() -> ApiError:
        return bad_request("INVALID_FORM", "The multipart body is broken or was cut short.")

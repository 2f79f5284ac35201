"""A multipart body as it arrives: files go straight to storage, nothing is held in memory."""

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
from kolbo_demo.service.errors import ApiError, bad_request
from kolbo_demo.service.rate_limit import MAX_FORM_PARTS, MAX_TEXT_BYTES, too_large
from kolbo_demo.service.storage.files import Storage, input_name

FILE_FIELDS = {"image": "source", "video": "source", "audio": "audio"}
"""Form field to the input that it is."""
TEXT_FIELDS = frozenset(LipsyncRequest.model_fields)


class Form:
    """A multipart body as it arrives: known files to storage, known texts to memory."""

    def __init__(self, boundary: bytes, storage: Storage, generation: str) -> None:
        if not boundary:
            raise bad_request("INVALID_FORM", "The multipart boundary is missing in Content-Type.")
        self._storage = storage
        self._generation = generation
        self._texts: dict[str, bytearray] = {}
        self._files: dict[str, str] = {}
        self._parts = 0
        self._ended = False
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._take: Callable[[bytes], None] = lambda _: None
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
                    "on_part_data": lambda data, start, end: self._take(data[start:end]),
                    "on_part_end": self._file.close,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise self._broken() from error

    async def read(self, body: AsyncIterator[bytes]) -> tuple[dict[str, Any], dict[str, str]]:
        """The text fields and the file fields; raises ApiError."""
        with self._file:
            try:
                async for chunk in body:
                    await thread_pool.run(thread_pool.DISK, self._parser.write, chunk)
                self._parser.finalize()
            except FormParserError as error:
                raise self._broken() from error
            if not self._ended:
                raise self._broken()
        return self._fields(), self._files

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, data in self._texts.items():
            # What is no UTF-8 is kept as it is, and refused with the rest of its kind.
            text = data.decode(errors="surrogateescape")
            if not text:
                continue
            fields[name] = text
            if name == "bounding_box_target":
                # Lists travel as JSON text; what is none is refused with the rest of its kind.
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
                raise bad_request(
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
            raise bad_request(f"CONFLICTING_{field.upper()}", f"Give only one {field} file.")
        self._files[name] = FILE_FIELDS[name]
        target = input_name(self._generation, FILE_FIELDS[name])
        file = self._file.enter_context(self._storage.create(target))
        left = MAX_FILE_BYTES

        def take(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise too_large(f"file in {name}", MAX_FILE_BYTES)
            file.write(data)

        self._take = take

    def _collect(self, name: str) -> None:
        text = self._texts[name] = bytearray()

        def take(data: bytes) -> None:
            text.extend(data)
            if len(text) > MAX_TEXT_BYTES:
                raise bad_request(f"INVALID_{name.upper()}", f"{name} is too long.")

        self._take = take

    def _end(self) -> None:
        self._ended = True

    @staticmethod
    def _broken() -> ApiError:
        return bad_request("INVALID_FORM", "The multipart body is broken or was cut short.")

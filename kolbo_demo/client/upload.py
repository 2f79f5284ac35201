"""A request looked at before it is sent: source, voice and options become one streamed body."""

import io
import json
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError
from urllib3.fields import RequestField

from kolbo_demo.client.errors import InputError
from kolbo_demo.client.session import Timeouts
from kolbo_demo.client.transport import Body
from kolbo_demo.contract import LipsyncRequest
from kolbo_demo.media import sandbox
from kolbo_demo.media.sniff import Media, MediaError
from kolbo_demo.options import Options

_MIME = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
"""Part types by what a file is. Anything else goes as bytes: the other side looks for itself."""


SILENT = "The recording is silent: lips will not move. Choose one in which somebody speaks."


class _Source(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


@dataclass(frozen=True)
class _File:
    """A local file as one part of a multipart body."""

    field: str
    path: Path
    name: str
    """What it is called on the wire: plain ASCII, with the extension of what it really is."""
    mime: str


@dataclass(frozen=True)
class Request:
    """A start request that is fit to be sent."""

    fields: dict[str, Any]
    """What travels as text, absent options left out."""
    files: tuple[_File, ...]
    remarks: tuple[str, ...] = ()
    """Sentences about a voice that can be sent, and may not be what was meant."""

    @classmethod
    def checked(
        cls,
        source: str | Path | None,
        audio: str | Path | None,
        options: Options,
    ) -> "Request":
        """Looks at everything. Raises `InputError` with what is wrong and what to do."""
        fields: dict[str, Any] = {}
        files: list[_File] = []
        remarks: list[str] = []
        for role, given in (("source", source), ("audio", audio)):
            if given is None or not str(given).strip():
                wanted = "a picture or a video" if role == "source" else "an audio file"
                raise InputError(f"There is no {role}: give {wanted}, or a link to one.")
            if link := _link(given):
                fields[f"{role}_url"] = link
            else:
                file, look = _checked_file(role, Path(given))
                files.append(file)
                remarks += map(sentence, look.notes)
                if look.silent:
                    remarks.append(SILENT)
        if options.face is not None:
            options = options.changed(face=_checked_face(options.face))
        fields |= options.wire()
        try:
            request = LipsyncRequest.model_validate(fields)
        except ValidationError as error:  # what is no Unicode, such as a stray byte from a terminal
            name = str(error.errors()[0]["loc"][0]).replace("_", " ")
            raise InputError(
                f"The {name} holds characters that cannot be sent. Type it again."
            ) from None
        return cls(request.model_dump(mode="json", exclude_none=True), tuple(files), tuple(remarks))

    def seconds(self, timeouts: Timeouts) -> float:
        """How long the server may take to answer once it has the request."""
        return timeouts.upload if self.files else timeouts.start

    @contextmanager
    def body(self, on_upload: Callable[[int, int], None] | None) -> Iterator[Body]:
        """The body: JSON where everything is a link, else multipart read from disk as it goes.

        `on_upload` is called with the bytes sent and the bytes in all, files only.
        """
        if not self.files:
            yield Body.of_json(self.fields)
            return
        with ExitStack() as stack:
            form = _Form()
            for name, value in self.fields.items():
                # A face point is one part with JSON text: a form has no arrays.
                text = (value if isinstance(value, str) else json.dumps(value)).encode()
                form.add(RequestField(name, b""), io.BytesIO(text), len(text))
            for file in self.files:
                try:
                    opened = stack.enter_context(file.path.open("rb", buffering=0))
                    size = file.path.stat().st_size
                except OSError as error:
                    raise _unreadable(file.path, error) from None
                form.add(RequestField(file.field, b"", file.name), opened, size, file.mime)
            form.close()
            yield Body(form, form.len, f"multipart/form-data; boundary={form.boundary}", on_upload)


def sentence(note: str) -> str:
    """A note on a source, a voice or a result, as a sentence."""
    return f"{note[:1].upper()}{note[1:]}."


class _Form:
    """A multipart form (RFC 7578) read part after part from where each lies, copied nowhere in
    between."""

    def __init__(self) -> None:
        self.boundary = secrets.token_hex(16)
        self.len = 0
        self._left: deque[tuple[_Source, int]] = deque()
        """What is still to be read, and how many bytes of it."""

    def add(
        self, field: RequestField, content: _Source, size: int, mime: str | None = None
    ) -> None:
        field.make_multipart(content_type=mime)
        self._bytes(f"--{self.boundary}\r\n{field.render_headers()}".encode())
        self._append(content, size)
        self._bytes(b"\r\n")

    def close(self) -> None:
        """No part follows."""
        self._bytes(f"--{self.boundary}--\r\n".encode())

    def read(self, size: int = -1, /) -> bytes:
        """The next piece, which may be shorter than asked for; empty at the end. Raises OSError
        where a file has become shorter meanwhile."""
        while self._left:
            source, left = self._left[0]
            if left == 0:
                self._left.popleft()
                continue
            piece = source.read(left if size < 0 else min(size, left)) or b""
            if not piece:
                raise OSError("The file became shorter.")
            self._left[0] = (source, left - len(piece))
            return piece
        return b""

    def _bytes(self, content: bytes) -> None:
        self._append(io.BytesIO(content), len(content))

    def _append(self, source: _Source, size: int) -> None:
        self._left.append((source, size))
        self.len += size


def _link(given: str | Path) -> str | None:
    """The link where one was given, None for a path. Raises `InputError` for a link that cannot
    work."""
    if isinstance(given, Path):
        return None
    text = given.strip()
    scheme, mark, _ = text.partition("://")
    if not mark or not scheme.isalnum():
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in text):
        raise InputError(
            f"“{text[:200]}” is not a link that can be used. "
            "It must start with http:// or https:// and hold no spaces."
        )
    return text


def _checked_file(role: str, path: Path) -> tuple[_File, Media]:
    try:
        if role == "source":
            look = sandbox.inspect_source(path, decode=False)
        else:
            look = sandbox.inspect_audio(path)
    except MediaError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    mime = _MIME.get(look.format, "application/octet-stream")
    if role == "audio":
        mime = mime.replace("video/", "audio/")
        return _File("audio", path, f"audio.{look.format}", mime), look
    return _File(look.kind, path, f"source.{look.format}", mime), look


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"“{path.name[:80]}” cannot be read ({error.strerror}). Check its name and permissions."
    )


def _checked_face(face: tuple[float, float]) -> list[float]:
    try:
        point = [float(value) for value in face]
    except (TypeError, ValueError):
        point = []
    if len(point) != 2 or not all(0.0 <= value <= 1.0 for value in point):
        raise InputError(
            "The face point must be two numbers from 0 to 1: how far across and how far down the "
            "picture, such as 0.5,0.4."
        )
    return point

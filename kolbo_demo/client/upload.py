"""Input checks before sending, and the streamed body of a start request."""

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
from kolbo_demo.media.sniff import MediaError, MediaInfo
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
"""Content types by detected format. Anything else is sent as bytes."""

INVALID_FACE = (
    "The face point must be two numbers from 0 to 1: how far across and how far down the picture, "
    "such as 0.5,0.4."
)
SILENT = "The recording is silent: lips will not move. Choose one in which somebody speaks."


class _PartStream(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


@dataclass(frozen=True)
class _FilePart:
    """A local file as one part of a multipart body."""

    field: str
    path: Path
    name: str
    """ASCII file name with the extension of the detected format."""
    mime: str


@dataclass(frozen=True)
class StartRequest:
    """A checked start request."""

    fields: dict[str, Any]
    """Text fields, without absent options."""
    files: tuple[_FilePart, ...]
    warnings: tuple[str, ...] = ()
    """Sentences about a voice that is valid but suspicious, such as a silent one."""

    @classmethod
    def prepare(
        cls,
        source: str | Path | None,
        audio: str | Path | None,
        options: Options,
    ) -> "StartRequest":
        """Check source, voice and options. Raises `InputError`."""
        fields: dict[str, Any] = {}
        files: list[_FilePart] = []
        warnings: list[str] = []
        for role, given in (("source", source), ("audio", audio)):
            if given is None or not str(given).strip():
                kind = "a picture or a video" if role == "source" else "an audio file"
                raise InputError(f"There is no {role}: give {kind}, or a link to one.")
            if link := _parse_link(given):
                fields[f"{role}_url"] = link
            else:
                file, info = _inspect_file(role, Path(given))
                files.append(file)
                warnings += map(sentence, info.notes)
                if info.silent:
                    warnings.append(SILENT)
        try:
            request = LipsyncRequest.model_validate(fields | options.to_wire())
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            if name == "bounding_box_target":
                raise InputError(INVALID_FACE) from None
            # Not Unicode, such as a stray byte from a terminal.
            raise InputError(
                f"The {name.replace('_', ' ')} holds characters that cannot be sent. Type it again."
            ) from None
        return cls(
            request.model_dump(mode="json", exclude_none=True), tuple(files), tuple(warnings)
        )

    def response_timeout(self, timeouts: Timeouts) -> float:
        """Seconds that the server may take to respond once it has the request."""
        return timeouts.upload if self.files else timeouts.start

    @contextmanager
    def body(self, on_upload: Callable[[int, int], None] | None) -> Iterator[Body]:
        """The body: JSON if source and voice are links, else multipart streamed from disk.

        `on_upload(sent, total)` counts bytes of a multipart body.
        """
        if not self.files:
            yield Body.of_json(self.fields)
            return
        with ExitStack() as stack:
            form = _MultipartStream()
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
    """A note of a source, voice or result as a sentence."""
    return f"{note[:1].upper()}{note[1:]}."


class _MultipartStream:
    """A multipart form (RFC 7578), read part by part from disk or memory without a copy."""

    def __init__(self) -> None:
        self.boundary = secrets.token_hex(16)
        self.len = 0
        self._pending: deque[tuple[_PartStream, int]] = deque()
        """Unread streams and the bytes left of each."""

    def add(
        self, field: RequestField, content: _PartStream, size: int, mime: str | None = None
    ) -> None:
        field.make_multipart(content_type=mime)
        self._bytes(f"--{self.boundary}\r\n{field.render_headers()}".encode())
        self._append(content, size)
        self._bytes(b"\r\n")

    def close(self) -> None:
        self._bytes(f"--{self.boundary}--\r\n".encode())

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, perhaps fewer than `size`; empty at the end. Raises OSError if a file was
        truncated meanwhile."""
        while self._pending:
            stream, remaining = self._pending[0]
            if remaining == 0:
                self._pending.popleft()
                continue
            chunk = stream.read(remaining if size < 0 else min(size, remaining)) or b""
            if not chunk:
                raise OSError("The file became shorter.")
            self._pending[0] = (stream, remaining - len(chunk))
            return chunk
        return b""

    def _bytes(self, content: bytes) -> None:
        self._append(io.BytesIO(content), len(content))

    def _append(self, stream: _PartStream, size: int) -> None:
        self._pending.append((stream, size))
        self.len += size


def _parse_link(given: str | Path) -> str | None:
    """The link, or None for a path. Raises `InputError` for an unusable link."""
    if isinstance(given, Path):
        return None
    text = given.strip()
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.isalnum():
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


def _inspect_file(role: str, path: Path) -> tuple[_FilePart, MediaInfo]:
    try:
        if role == "source":
            info = sandbox.inspect_source(path, decode=False)
        else:
            info = sandbox.inspect_audio(path)
    except MediaError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    mime = _MIME.get(info.format, "application/octet-stream")
    if role == "audio":
        mime = mime.replace("video/", "audio/")
        return _FilePart("audio", path, f"audio.{info.format}", mime), info
    return _FilePart(info.kind, path, f"source.{info.format}", mime), info


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"“{path.name[:80]}” cannot be read ({error.strerror}). Check its name and permissions."
    )

"""The wire format of Kolbo's lipsync API, shared by the client and the local service.

Field names are Kolbo's own. Unknown fields are retained (`extra="allow"`), and `state` is a plain
string, so that later additions of the cloud do not fail. Requests are validated strictly, replies
leniently (see `_Reply`).
"""

import json
import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

# Defined there because renders load no pydantic.
from kolbo_demo.media.limits import MAX_FILE_BYTES as MAX_FILE_BYTES
from kolbo_demo.media.sniff import VIDEO_EXTENSIONS

API_PREFIX = "/v1"
PENDING = "pending"
PROCESSING = "processing"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
FINAL_STATES = frozenset({COMPLETED, FAILED, CANCELLED})

Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


def _unicode(text: str) -> str:
    """The text. Raises ValueError for lone surrogates, such as from a stray byte."""
    text.encode()
    return text


Text = Annotated[str, AfterValidator(_unicode)]


def url_kind(url: str) -> Literal["image", "video"]:
    """The kind of a `source_url` by Kolbo's rule: the extension of its path, without the query."""
    try:
        path = urlsplit(url).path
    except ValueError:  # not a URL: opening it fails later
        return "image"
    return "video" if PurePosixPath(path).suffix.lower() in VIDEO_EXTENSIONS else "image"


def is_web_link(text: str) -> bool:
    """Whether a text is an http:// or https:// URL."""
    try:
        return urlsplit(text).scheme in {"http", "https"}
    except ValueError:  # stray brackets
        return False


def is_retryable_status(status: int) -> bool:
    """Whether an HTTP status may change although the request does not."""
    return status in {408, 425, 429} or status >= 500


def _percent(value: object) -> float | None:
    """Progress as 0-100, also from text such as `"42"` or `"42%"`; None if malformed."""
    try:
        number = float(str(value).strip().removesuffix("%"))
    except ValueError:
        return None
    return min(max(number, 0.0), 100.0) if math.isfinite(number) else None


def _error_text(value: object) -> object:
    """An `error` as text, also from an object."""
    if isinstance(value, dict):
        value = value.get("message") or value.get("error") or value
    return json.dumps(value) if isinstance(value, dict | list) else value


def _normalize_state(value: object) -> object:
    """A state in lower case and British spelling."""
    if not isinstance(value, str):
        return value
    value = value.strip().lower()
    return CANCELLED if value == "canceled" else value


def _url_list(value: object) -> list[str]:
    """The non-empty strings of a list, or a single string as a list."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item]


def _valid_models(value: object) -> list[object]:
    """The models with an identifier, so that one malformed row does not hide the others."""
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, Model) or _has_identifier(row)]


def _has_identifier(row: object) -> bool:
    identifier = row.get("identifier") if isinstance(row, dict) else None
    return isinstance(identifier, str) and bool(identifier)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Reply(_Wire):
    """A response document. An optional field of an unexpected type reads as its default, so that a
    changed detail of the server does not end a poll or hide a result."""

    @model_validator(mode="before")
    @classmethod
    def _rename_camel_case(cls, value: object) -> object:
        if isinstance(value, dict) and "generationId" in value:
            value = {"generation_id": value["generationId"], **value}
        return value

    @field_validator("*", mode="wrap")
    @classmethod
    def _default_if_invalid(
        cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        try:
            return handler(value)
        except ValidationError:
            field = cls.model_fields[info.field_name or ""]
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True, validated_data={})


class LipsyncRequest(_Wire):
    """`POST /v1/generate/lipsync`: the text fields; files are parts of their own."""

    source_url: Text | None = None
    audio_url: Text | None = None
    prompt: Text | None = None
    model: Text | None = None
    bounding_box_target: tuple[Unit, Unit] | None = None
    """Face point, x and y in 0-1 of the upright picture."""
    occlusion_detection_enabled: bool | None = None
    """False: a source whose mouth is not visible is rendered too."""
    visible_mark: bool | None = None
    """Whether the video has the watermark. A field of the local service only."""


class StartReply(_Reply):
    """Response to a start."""

    success: bool = True
    generation_id: str = Field(min_length=1)
    type: str = "lipsync"
    model: str | None = None
    credits_charged: float | None = None
    poll_url: str | None = None
    poll_interval_hint: float | None = None
    """Seconds between polls; absent where the API leaves it to the client."""


class UnsyncedSpan(_Reply):
    """A part of a result with unchanged lips. Sent by the local service only."""

    start: float
    end: float
    """Seconds of the result."""
    reason: str
    """Completes a sentence: "the mouth is hidden"."""

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{_clock(self.start)}-{_clock(self.end)} left as it was: {self.reason}"


def _clock(seconds: float) -> str:
    """Minutes and seconds, as in 0:03.2."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


class Result(_Reply):
    """The `result` of a completed generation."""

    urls: Annotated[list[str], BeforeValidator(_url_list)] = Field(default_factory=list)
    thumbnail_url: str | None = None
    duration: float | None = None
    """Seconds."""
    aspect_ratio: str | None = None
    prompt_used: str | None = None
    model: str | None = None
    created_at: str | None = None
    """ISO 8601 with milliseconds and Z."""
    unsynced: list[UnsyncedSpan] = Field(default_factory=list)
    """Empty if all is in sync, or if the server does not report it."""
    notes: list[str] = Field(default_factory=list)
    """Changes to the source's colours, and the track or channel used as the voice, such as "HDR was
    tone-mapped to SDR". Set by the local service only."""
    visible_mark: bool = False
    """Whether the video has the watermark. Set by the local service only."""


class Failure(_Reply):
    """Details of a failed generation, beside `error`."""

    message: str | None = None
    category: str | None = None
    code: str | None = None
    retryable: bool | None = None


class Status(_Reply):
    """`GET /v1/generate/{id}/status`."""

    success: bool = True
    generation_id: str | None = None
    type: str = "lipsync"
    state: Annotated[str, BeforeValidator(_normalize_state), Field(min_length=1)]
    progress: Annotated[float | None, BeforeValidator(_percent)] = None
    """0-100."""
    result: Result | None = None
    error: Annotated[str | None, BeforeValidator(_error_text)] = None
    failure: Failure | None = None
    credits_used: float | None = None

    @property
    def final(self) -> bool:
        """Whether the state will not change."""
        return self.state in FINAL_STATES


class PreviewReply(_Reply):
    """`GET /v1/generate/{id}/preview`, which only the local service has."""

    success: bool = True
    jpeg: Base64Bytes | None = None
    """The latest frame that is rendered, at most 320 pixels wide; None before the first
    one, after the end, and where another machine renders."""


class CancelReply(_Reply):
    """`POST /v1/generate/{id}/cancel`."""

    success: bool = True
    generation_id: str | None = None
    state: str = CANCELLED
    credits_refunded: float | None = None


class Model(_Reply):
    """One row of `GET /v1/models?type=lipsync`. `credit` is the price per second of output."""

    identifier: str
    name: str | None = None
    provider: str | None = None
    types: list[str] = Field(default_factory=list)
    credit: float | None = None
    summary: str | None = None
    recommended: bool | None = None
    new_model: bool | None = None
    min_audio_duration: float | None = None
    max_audio_duration: float | None = None
    audio_max_follows_video_duration: bool | None = None
    supported_audio_formats: list[str] | None = None
    min_video_duration: float | None = None
    max_video_duration: float | None = None
    max_file_size: float | None = None
    requires_prompt: bool | None = None
    max_prompt_length: int | None = None
    estimated_duration_seconds: float | None = None


class ModelList(_Reply):
    """`GET /v1/models`."""

    success: bool = True
    models: Annotated[list[Model], BeforeValidator(_valid_models)] = Field(default_factory=list)
    count: int | None = None


class Credits(_Reply):
    """Remaining credits of an account. 1 credit is 0.01 US dollar."""

    total: float
    plan_credits: float = 0
    credit_pack: float = 0
    redemption: float = 0


class CreditsReply(_Reply):
    """`GET /v1/account/credits`."""

    success: bool = True
    credits: Credits


class ErrorReply(_Wire):
    """Body of an error, in both documented shapes: `{success, error, code}` for all errors and
    `{status, message}` for a 429."""

    success: Literal[False] = False
    error: str
    code: str
    status: Literal[False] = False
    message: str

    @classmethod
    def of(cls, code: str, text: str, **extra: Any) -> "ErrorReply":
        """The body for `code`; `text` is one sentence for people."""
        return cls(error=text, code=code, message=text, **extra)

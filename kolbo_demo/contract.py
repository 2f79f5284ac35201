"""The wire: Kolbo's lipsync API as types, used by the client and the local service alike.

Field names are Kolbo's own. Fields that the cloud adds later are kept (`extra="allow"`), never a
failure, and `state` is a plain string on purpose: a state this version does not know is carried,
not refused. Requests are read strictly, replies leniently (see `_Reply`).
"""

import json
import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
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

# Defined where renders reach them, which load no pydantic.
from kolbo_demo.media.sniff import MAX_FILE_BYTES as MAX_FILE_BYTES
from kolbo_demo.media.sniff import VIDEO_EXTENSIONS

API_PREFIX = "/v1"
DEFAULT_POLL_SECONDS = 8.0
PENDING = "pending"
PROCESSING = "processing"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
FINAL_STATES = frozenset({COMPLETED, FAILED, CANCELLED})

Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


def _unicode(text: str) -> str:
    """The text, if it can be sent on: lone surrogates, left by a stray byte, cannot."""
    text.encode()  # raises a ValueError
    return text


Text = Annotated[str, AfterValidator(_unicode)]


def url_kind(url: str) -> Literal["image", "video"]:
    """What a `source_url` is by Kolbo's rule: its path's extension, whatever the query says."""
    try:
        path = urlsplit(url).path
    except ValueError:  # not a link at all; whoever opens it will say so
        return "image"
    return "video" if PurePosixPath(path).suffix.lower() in VIDEO_EXTENSIONS else "image"


def is_web_link(text: str) -> bool:
    """Whether a text is a link that starts with http:// or https://."""
    try:
        return urlsplit(text).scheme in {"http", "https"}
    except ValueError:  # stray brackets
        return False


def _percent(value: object) -> float | None:
    """Progress as 0-100, also from text such as `"42"` or `"42%"`; None where it says nothing."""
    try:
        number = float(str(value).strip().removesuffix("%"))
    except ValueError:
        return None
    return min(max(number, 0.0), 100.0) if math.isfinite(number) else None


def _words(value: object) -> object:
    """An `error` as text, also where it comes as an object."""
    if isinstance(value, dict):
        value = value.get("message") or value.get("error") or value
    return json.dumps(value) if isinstance(value, dict | list) else value


def _state(value: object) -> object:
    """A state as this project spells it."""
    if not isinstance(value, str):
        return value
    value = value.strip().lower()
    return CANCELLED if value == "canceled" else value


def _links(value: object) -> list[str]:
    """Every non-empty string of a list, of a string alone, of nothing."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item]


def _rows(value: object) -> list[object]:
    """The models that can be named: one odd row must not hide the others."""
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, Model) or _has_identifier(row)]


def _has_identifier(row: object) -> bool:
    identifier = row.get("identifier") if isinstance(row, dict) else None
    return isinstance(identifier, str) and bool(identifier)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Reply(_Wire):
    """What a server says. An optional field of an unexpected type reads as its default: a detail
    that changes on the other side must not end a poll or hide a result."""

    @model_validator(mode="before")
    @classmethod
    def _respell(cls, value: object) -> object:
        if isinstance(value, dict) and "generationId" in value:
            value = {"generation_id": value["generationId"], **value}
        return value

    @field_validator("*", mode="wrap")
    @classmethod
    def _forgive(
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
    """`POST /v1/generate/lipsync`, the fields that travel as text (files travel beside them)."""

    source_url: Text | None = None
    audio_url: Text | None = None
    prompt: Text | None = None
    model: Text | None = None
    bounding_box_target: tuple[Unit, Unit] | None = None
    """Face point, x and y in 0-1 of the upright picture."""
    occlusion_detection_enabled: bool | None = None
    """False: a source whose mouth is not visible is rendered all the same."""
    visible_mark: bool | None = None
    """Whether the picture says that it is AI-generated. The local service's own field: Kolbo's API
    has none."""


class StartReply(_Reply):
    """What a started generation answers."""

    success: bool = True
    generation_id: str = Field(min_length=1)
    type: str = "lipsync"
    model: str | None = None
    credits_charged: float | None = None
    poll_url: str | None = None
    poll_interval_hint: float | None = None
    """Seconds between polls; `DEFAULT_POLL_SECONDS` where absent."""


class Unsynced(_Reply):
    """A part of a result whose lips were left as they were. The local service tells of them."""

    start: float
    end: float
    """Seconds of the result."""
    reason: str
    """Why, as a sentence goes on: "the mouth is hidden"."""

    @property
    def told(self) -> str:
        """In a sentence for people."""
        return f"{_clock(self.start)}-{_clock(self.end)} left as it was: {self.reason}"


def _clock(seconds: float) -> str:
    """Minutes and seconds, as in 0:03.2."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


class Result(_Reply):
    """The `result` of a completed generation."""

    urls: Annotated[list[str], BeforeValidator(_links)] = Field(default_factory=list)
    thumbnail_url: str | None = None
    duration: float | None = None
    """Seconds."""
    aspect_ratio: str | None = None
    prompt_used: str | None = None
    model: str | None = None
    created_at: str | None = None
    """ISO 8601 with milliseconds and Z."""
    unsynced: list[Unsynced] = Field(default_factory=list)
    """What is not in step, and why; empty where all is, and where a server does not tell."""
    notes: list[str] = Field(default_factory=list)
    """Changes to the source's colours, and the track or channel used as the voice, such as "HDR was
    tone-mapped to SDR". Set by the local service only."""
    visible_mark: bool = False
    """Whether the picture itself says that it is AI-generated. The local service tells of it."""


class Failure(_Reply):
    """Details that a failed generation may carry beside `error`."""

    message: str | None = None
    category: str | None = None
    code: str | None = None
    retryable: bool | None = None


class Status(_Reply):
    """`GET /v1/generate/{id}/status`."""

    success: bool = True
    generation_id: str | None = None
    type: str = "lipsync"
    state: Annotated[str, BeforeValidator(_state), Field(min_length=1)]
    progress: Annotated[float | None, BeforeValidator(_percent)] = None
    """0-100."""
    result: Result | None = None
    error: Annotated[str | None, BeforeValidator(_words)] = None
    failure: Failure | None = None
    credits_used: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will change."""
        return self.state in FINAL_STATES


class CancelReply(_Reply):
    """`POST /v1/generate/{id}/cancel`."""

    success: bool = True
    generation_id: str | None = None
    state: str = CANCELLED
    credits_refunded: float | None = None


class Model(_Reply):
    """One row of `GET /v1/models?type=lipsync`. `credit` is a price a second of output."""

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
    models: Annotated[list[Model], BeforeValidator(_rows)] = Field(default_factory=list)
    count: int | None = None


class Credits(_Reply):
    """What an account has left. 1 credit is 0.01 US dollar."""

    total: float
    plan_credits: float = 0
    credit_pack: float = 0
    redemption: float = 0


class CreditsReply(_Reply):
    """`GET /v1/account/credits`."""

    success: bool = True
    credits: Credits


class ErrorReply(_Wire):
    """Every error body: both documented shapes in one, so that any reader is served.

    The docs print `{success, error, code}` for all errors and `{status, message}` for a 429.
    """

    success: Literal[False] = False
    error: str
    code: str
    status: Literal[False] = False
    message: str

    @classmethod
    def of(cls, code: str, text: str, **extra: Any) -> "ErrorReply":
        """The body for `code` with one sentence for people."""
        return cls(error=text, code=code, message=text, **extra)

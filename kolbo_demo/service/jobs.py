"""Jobs and outcomes of generations and segments, as dbos stores them.

Processes of two releases may share a queue, so keys of the documents stay. Without pydantic, which
a render does not load.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from kolbo_demo.engine.unsynced import UnsyncedSeconds, UnsyncedSpan
from kolbo_demo.json_codec import decode, encode, stored_as
from kolbo_demo.options import Options
from kolbo_demo.service.errors import JobFailure


class _Document:
    """A dataclass that dbos stores as JSON."""

    def to_json(self) -> dict[str, Any]:
        return encode(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return decode(cls, document)


@dataclass(frozen=True)
class Job(_Document):
    """A generation to run. `JobQueue.submit` sets the fields after the links."""

    options: Options
    source_url: str | None = None
    audio_url: str | None = None
    """Links; None where the file was uploaded."""
    file_stem: str = field(default="", metadata=stored_as("file"))
    """Of the result's names in storage."""
    created: float = 0.0
    """Seconds since the epoch."""
    caller: str = ""
    turn: int = 0
    """Position in the rotation of callers, see `fair_queue`."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """An older release stored the options beside the rest."""
        return super().from_json({"options": document, **document})


@dataclass(frozen=True)
class SegmentJob(_Document):
    """A segment of a long generation to render."""

    generation: str
    index: int


@dataclass(frozen=True, kw_only=True)
class AppliedOptions:
    """The options by which a video was rendered."""

    model: str
    prompt_used: str = ""
    visible_mark: bool = False


@dataclass(frozen=True, kw_only=True)
class PlanProperties(AppliedOptions):
    """Properties of the plan of a long video."""

    segments: int
    frames: int
    """To render."""
    inspected_frames: int = field(metadata=stored_as("looks"))


@dataclass(frozen=True, kw_only=True)
class VideoProperties(AppliedOptions):
    """Properties of a rendered video."""

    duration: float
    """Seconds."""
    width: int
    height: int
    """Pixels."""
    frames: int
    fps: float
    unsynced: tuple[UnsyncedSeconds, ...] = ()
    notes: tuple[str, ...] = ()
    """Changes to the source's colours, and the track or channel used as the voice."""


@dataclass(frozen=True)
class Outcome(_Document):
    """Result of a generation, of one of its steps, or of a segment: at most one field is set."""

    video: VideoProperties | None = field(default=None, metadata=stored_as("made"))
    plan: PlanProperties | None = field(default=None, metadata=stored_as("parts"))
    unsynced: tuple[UnsyncedSpan, ...] | None = None
    """Of a rendered segment."""
    failure: JobFailure | None = None

    @property
    def empty(self) -> bool:
        """Whether the generation was cancelled, or the step has no result."""
        return self == Outcome()

    def to_json(self) -> dict[str, Any]:
        """Without absent fields, as an older release expects."""
        return {key: value for key, value in super().to_json().items() if value is not None}

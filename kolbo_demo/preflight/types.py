"""What was found out, as plain data that passes between processes as JSON."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

SMALL_SCALE = 0.5
"""Pixels a millimetre of the head. There a face is some 90 pixels high, its mouth 25 wide."""
SIDE_DEGREES = 40.0
"""A head turned further shows half a mouth."""


@dataclass(frozen=True)
class Face:
    """One face in one picture."""

    box: tuple[float, float, float, float]
    """Left, top, width, height in 0-1 of the upright picture."""
    scale: float
    """Pixels a millimetre of the head."""
    yaw: float
    """Degrees to the side; 0 looks into the camera."""
    hidden: bool = False
    """Whether the mouth is outside the picture or something is before it."""

    @property
    def point(self) -> tuple[float, float]:
        """Its middle, 0-1."""
        left, top, width, height = self.box
        return left + width / 2, top + height / 2

    @property
    def small(self) -> bool:
        return self.scale < SMALL_SCALE

    @property
    def sideways(self) -> bool:
        return abs(self.yaw) > SIDE_DEGREES


@dataclass(frozen=True)
class Picture:
    """One picture of a source, to be shown."""

    at: float
    """Seconds; 0 for a still."""
    jpeg: str
    """Base64, longer side at most `worker.PREVIEW_PIXELS`."""
    faces: list[Face] | None
    """From left to right; None where this machine cannot look for them."""

    @classmethod
    def of(cls, sent: dict[str, Any]) -> Self:
        found = sent["faces"]
        if found is not None:
            found = [Face(**{**face, "box": tuple(face["box"])}) for face in found]
        return cls(sent["at"], sent["jpeg"], found)


@dataclass(frozen=True)
class Stretch:
    """A part of a clip without a usable face."""

    start: float
    end: float
    """Seconds, to half the distance between two looks."""
    side: bool
    """Whether there are faces, all of them looking to the side."""
    jpeg: str
    """Base64 of a thumbnail from it."""


@dataclass(frozen=True)
class Source:
    """A picture or a clip."""

    kind: Literal["image", "video"]
    format: str
    bytes: int
    width: int
    height: int
    """Upright pixels."""
    duration: float | None = None
    """Seconds; None for a picture."""
    fps: float | None = None
    variable: bool = False
    """Whether the frame rate changes on the way."""
    has_audio: bool = False
    notes: list[str] = field(default_factory=list)
    """What the local engine changes of its colours and size."""


@dataclass(frozen=True)
class Voice:
    """A recording."""

    format: str
    bytes: int
    duration: float
    """Seconds."""
    speech: bool | None
    """Whether somebody speaks in it; None where this machine cannot hear."""
    peak: float
    """Highest decibels of any 10 ms, full scale = 0."""
    clipped: float
    """Share of samples, 0-1, that stand at full scale."""
    silences: list[tuple[float, float]] = field(default_factory=list)
    """Seconds: where nothing is heard for long."""
    notes: list[str] = field(default_factory=list)
    """What of the recording is the voice, where that is not all of it."""

"""Results of an inspection: plain data that passes between processes as JSON."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

SMALL_SCALE = 0.5
"""Pixels per millimetre of the head: a face some 90 pixels high, a mouth 25 wide."""
SIDE_DEGREES = 40.0
"""A head turned further shows only half of its mouth."""


@dataclass(frozen=True)
class Face:
    """A face in a picture."""

    box: tuple[float, float, float, float]
    """Left, top, width and height in 0-1 of the upright picture."""
    scale: float
    """Pixels per millimetre of the head."""
    yaw: float
    """Degrees; 0 faces the camera."""
    hidden: bool = False
    """Whether the mouth is covered or outside the picture."""

    @property
    def point(self) -> tuple[float, float]:
        """Its centre, 0-1."""
        left, top, width, height = self.box
        return left + width / 2, top + height / 2

    @property
    def small(self) -> bool:
        return self.scale < SMALL_SCALE

    @property
    def sideways(self) -> bool:
        return abs(self.yaw) > SIDE_DEGREES


@dataclass(frozen=True)
class Preview:
    """A picture of a source for the page, with its faces."""

    at: float
    """Seconds; 0 for a portrait."""
    jpeg: str
    """Base64, longer side at most `worker.PREVIEW_PIXELS`."""
    faces: list[Face] | None
    """From left to right; None if this machine cannot detect faces."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        faces = document["faces"]
        if faces is not None:
            faces = [Face(**{**face, "box": tuple(face["box"])}) for face in faces]
        return cls(document["at"], document["jpeg"], faces)


@dataclass(frozen=True)
class FacelessSpan:
    """A part of a clip without a usable face."""

    start: float
    end: float
    """Seconds, accurate to half a sampling interval."""
    side: bool
    """Whether there are faces, all turned to the side."""
    jpeg: str
    """A thumbnail, Base64."""


@dataclass(frozen=True)
class Source:
    """Properties of a portrait or a clip."""

    kind: Literal["image", "video"]
    format: str
    bytes: int
    width: int
    height: int
    """Pixels of the upright picture."""
    duration: float | None = None
    """Seconds; None for a portrait."""
    fps: float | None = None
    variable: bool = False
    """Whether the frame rate varies."""
    has_audio: bool = False
    notes: list[str] = field(default_factory=list)
    """Changes that the local engine makes to its colours and size."""


@dataclass(frozen=True)
class Voice:
    """Properties of a recording."""

    format: str
    bytes: int
    duration: float
    """Seconds."""
    speech: bool | None
    """Whether it holds speech; None if this machine cannot detect it."""
    peak: float
    """Level of the loudest 10 ms in dBFS."""
    clipped: float
    """Share of samples at full scale, 0-1."""
    silences: list[tuple[float, float]] = field(default_factory=list)
    """Long silences: start and end in seconds."""
    notes: list[str] = field(default_factory=list)
    """Say which track or channel is the voice, if it is not the whole recording."""

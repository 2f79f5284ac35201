"""The options of a generation as one immutable object.

Page, command line and batch create it. The client sends `to_wire()`, the service stores the object
as JSON with the job, and the engine renders by it. Without pydantic, which a render does not load.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kolbo_demo.json_codec import decode, encode

if TYPE_CHECKING:
    from kolbo_demo.contract import LipsyncRequest

Point = tuple[float, float]
"""x and y in 0-1 of the upright picture."""
Span = tuple[float, float]
"""Start and end, in seconds."""


@dataclass(frozen=True)
class Trim:
    """How a clip and a voice are trimmed before they are sent."""

    clip: Span | None = None
    """The used part; None is the whole."""
    voice: Span | None = None
    clip_seconds: float = 0.0
    """Length of the used part; 0 for a still, or if unknown."""
    voice_seconds: float = 0.0
    mode: str | None = None
    """How the lengths are made equal: a key of `preflight.trim.MODES`; None leaves it to the
    model."""

    @property
    def needed(self) -> bool:
        """Whether any file is rewritten."""
        return bool(self.clip or self.voice or self.mode)


@dataclass(frozen=True)
class Options:
    """The options and their defaults."""

    prompt: str | None = None
    model: str | None = None
    """An identifier from `KolboClient.models`; None is Smart Select."""
    face: Point | None = None
    """A point on the face that speaks."""
    face_at: float = 0.0
    """Seconds into the clip at which `face` was chosen."""
    speed: float = 1.0
    """Speed of text to speech, 0.5 to 2."""
    language: str | None = None
    """Language of the words to speak, such as `de`; None is guessed from the words."""
    voice: str | None = None
    """Voice that speaks the words, a name from `engine.voices.voices`; None is the default of the
    language."""
    trim: Trim = Trim()
    mark: bool = False
    """Whether the video has the watermark."""
    insist: bool = False
    """Whether a source whose mouth is not visible is rendered."""

    def to_wire(self) -> dict[str, Any]:
        """These options as fields of `LipsyncRequest`, without defaults."""
        values = {
            "prompt": (self.prompt or "").strip() or None,
            "model": (self.model or "").strip() or None,
            "bounding_box_target": self.face,
            "visible_mark": self.mark or None,
            "occlusion_detection_enabled": False if self.insist else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_request(cls, request: "LipsyncRequest") -> "Options":
        """The options of a request on the wire."""
        return cls(
            prompt=request.prompt,
            model=request.model,
            face=request.bounding_box_target,
            mark=bool(request.visible_mark),
            insist=request.occlusion_detection_enabled is False,
        )

    def replace(self, **changes: Any) -> "Options":
        """A copy with changed fields."""
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """A JSON document, for `from_json`."""
        return encode(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Options":
        """The options of a document. Unknown keys are ignored; absent ones have their defaults."""
        return decode(cls, document)

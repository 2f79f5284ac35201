"""Everything that a caller can choose about a generation, as one immutable object.

Page, command line and batch fill it in. The client sends `wire()`, the service stores the object as
JSON with the job, and the engine renders by it. Without pydantic, which a render does not load.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolbo_demo.contract import LipsyncRequest

Point = tuple[float, float]
"""x and y in 0-1 of the upright picture."""
Span = tuple[float, float]
"""From and to, in seconds."""


@dataclass(frozen=True)
class Trim:
    """How a clip and a voice are cut before they are sent."""

    clip: Span | None = None
    """The part that is used; None is the whole."""
    voice: Span | None = None
    clip_seconds: float = 0.0
    """Length of that part; 0 for a still, and where it is not known."""
    voice_seconds: float = 0.0
    mode: str | None = None
    """How they are made equally long, by its name in `preflight.trim`; None leaves it to the
    model."""

    @property
    def needed(self) -> bool:
        """Whether any file changes."""
        return bool(self.clip or self.voice or self.mode)


@dataclass(frozen=True)
class Options:
    """The choices, and what they are without one."""

    prompt: str | None = None
    model: str | None = None
    """An identifier from `KolboClient.models`; None is Smart Select."""
    face: Point | None = None
    """A point on the face that speaks."""
    face_at: float = 0.0
    """Seconds into the clip at which `face` was chosen."""
    speed: float = 1.0
    """Of words that are spoken; 1 is the voice's own."""
    trim: Trim = Trim()
    mark: bool = False
    """Whether the picture says that it is AI-generated."""
    insist: bool = False
    """Whether to render a source whose mouth is not visible."""

    def wire(self) -> dict[str, Any]:
        """The fields of `LipsyncRequest` that carry these options; defaults are left out."""
        values = {
            "prompt": (self.prompt or "").strip() or None,
            "model": (self.model or "").strip() or None,
            "bounding_box_target": self.face,
            "visible_mark": self.mark or None,
            "occlusion_detection_enabled": False if self.insist else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, request: "LipsyncRequest") -> "Options":
        """The options that a request on the wire carries."""
        return cls(
            prompt=request.prompt,
            model=request.model,
            face=request.bounding_box_target,
            mark=bool(request.visible_mark),
            insist=request.occlusion_detection_enabled is False,
        )

    def changed(self, **changes: Any) -> "Options":
        """A copy with other values."""
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """Values that JSON can hold, for `of_json`."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Options":
        """The options that `as_json` gave. Others' keys are ignored; absent ones have their
        defaults."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        if known.get("face"):
            known["face"] = tuple(known["face"])
        known["trim"] = Trim(**values.get("trim", {}))
        return cls(**known)

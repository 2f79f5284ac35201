"""From what the visitor filled in to one source and one voice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.contract import is_web_link
from kolbo_demo.ui.texts import enumeration, say


class UnusableError(ValueError):
    """What was filled in cannot work. The message is one sentence for the visitor."""


Span = tuple[float, float]
"""From and to, in seconds."""
Point = tuple[float, float]
"""x and y in 0-1 of the upright picture."""


@dataclass(frozen=True)
class Edit:
    """What is made of clip and voice before they are sent."""

    clip: Span | None = None
    """The part that is used; None is the whole."""
    voice: Span | None = None
    clip_seconds: float = 0.0
    """Of that part; 0 for a still, and where it is not known."""
    voice_seconds: float = 0.0
    mode: str | None = None
    """How they are made equally long, by its name in `preflight.lengths`; None: as the model does
    it."""

    @property
    def needed(self) -> bool:
        """Whether there is anything to be done."""
        return bool(self.clip or self.voice or self.mode)


@dataclass(frozen=True)
class Request:
    """What the visitor asks for. A `str` source or voice is a link, a `Path` a file."""

    source: Path | str
    voice: Path | str | None
    """None where words are to be spoken."""
    words: str | None
    prompt: str | None
    model: str | None
    """None is Smart Select."""
    face: Point | None
    face_at: float = 0.0
    """Seconds: where in the clip the face is there."""
    speed: float = 1.0
    """Of words to be spoken."""
    edit: Edit = Edit()
    mark: bool = False
    """Whether the picture of the result says that it is AI-generated."""
    insist: bool = False
    """Whether a source is rendered whose mouth is not visible."""


def request_of(
    image: str | None,
    video: str | None,
    source_url: str | None,
    audio: str | None,
    audio_url: str | None,
    words: str | None,
    prompt: str | None,
    model: str | None,
    face: Point | None,
) -> Request:
    """Reads the fields of the page. Raises `UnusableError` unless exactly one source and one voice
    are given: guessing which one was meant would surprise."""
    source, chosen = _only(
        {"image": image, "video": video, "link": source_url},
        "inputs.no_source",
        "inputs.several_sources",
    )
    voice, spoken = _only(
        {"recording": audio, "link": audio_url, "words": words},
        "inputs.no_voice",
        "inputs.several_voices",
    )
    return Request(
        source=_link(chosen) if source == "link" else Path(chosen),
        voice=None if voice == "words" else _link(spoken) if voice == "link" else Path(spoken),
        words=spoken if voice == "words" else None,
        prompt=(prompt or "").strip() or None,
        model=model or None,
        face=face,
    )


def _only(given: Mapping[str, str | None], nothing: str, several: str) -> tuple[str, str]:
    """The one name and value that is given; `nothing` and `several` are the texts otherwise."""
    filled = [(name, text) for name, value in given.items() if (text := (value or "").strip())]
    if not filled:
        raise UnusableError(say(nothing))
    if len(filled) > 1:
        things = enumeration([say(f"inputs.{name}") for name, _ in filled])
        raise UnusableError(say(several, things=things[:1].upper() + things[1:]))
    return filled[0]


def _link(text: str) -> str:
    """The link. Anything else stops here: further on a text that is no link would be a path, and a
    visitor may not name files of this machine."""
    if not is_web_link(text):
        raise UnusableError(say("inputs.no_link"))
    return text

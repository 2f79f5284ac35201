"""From what the visitor filled in to one source and one voice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class UnusableError(ValueError):
    """What was filled in cannot work. The message is one sentence for the visitor."""


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
    face: tuple[float, float] | None
    """x and y in 0-1 of the upright picture."""


def request_of(
    image: str | None,
    video: str | None,
    source_url: str | None,
    audio: str | None,
    audio_url: str | None,
    words: str | None,
    prompt: str | None,
    model: str | None,
    face: tuple[float, float] | None,
) -> Request:
    """Reads the fields of the page. Raises `UnusableError` unless exactly one source and one voice
    are given: guessing which one was meant would surprise."""
    source, chosen = _only(
        {"an image": image, "a video": video, "a link": source_url},
        "Nobody to speak yet: give a picture, a video or a link to one.",
        "for the face",
    )
    voice, spoken = _only(
        {"a recording": audio, "a link": audio_url, "words": words},
        "Nothing to say yet: give a recording, a link to one, or words to speak.",
        "for the voice",
    )
    return Request(
        source=_link(chosen) if source == "a link" else Path(chosen),
        voice=None if voice == "words" else _link(spoken) if voice == "a link" else Path(spoken),
        words=spoken if voice == "words" else None,
        prompt=(prompt or "").strip() or None,
        model=model or None,
        face=face,
    )


def _only(given: Mapping[str, str | None], nothing: str, where: str) -> tuple[str, str]:
    """The one name and value that is given."""
    filled = [(name, text) for name, value in given.items() if (text := (value or "").strip())]
    if not filled:
        raise UnusableError(nothing)
    if len(filled) > 1:
        names = [name for name, _ in filled]
        raise UnusableError(
            f"{' and '.join((', '.join(names[:-1]), names[-1])).capitalize()} are given {where}: "
            "keep one and clear the rest."
        )
    return filled[0]


def _link(text: str) -> str:
    """The link. Anything else stops here: further on a text that is no link would be a path, and a
    visitor may not name files of this machine."""
    if urlsplit(text).scheme not in {"http", "https"}:
        raise UnusableError("A link starts with http:// or https://. Check it, or upload the file.")
    return text

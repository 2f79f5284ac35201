"""From what the visitor filled in to one source and one voice."""

from collections.abc import Mapping
from pathlib import Path

from kolbo_demo.client import InputError
from kolbo_demo.contract import is_web_link
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.options import Options, Point
from kolbo_demo.ui.i18n.texts import enumeration, say


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
) -> GenerationRequest:
    """Reads the fields of the page. Raises `InputError` unless exactly one source and one voice
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
    return GenerationRequest(
        source=_link(chosen) if source == "link" else Path(chosen),
        voice=None if voice == "words" else _link(spoken) if voice == "link" else Path(spoken),
        words=spoken if voice == "words" else None,
        options=Options(prompt=(prompt or "").strip() or None, model=model or None, face=face),
    )


def _only(given: Mapping[str, str | None], nothing: str, several: str) -> tuple[str, str]:
    """The one name and value that is given; `nothing` and `several` are the texts otherwise."""
    filled = [(name, text) for name, value in given.items() if (text := (value or "").strip())]
    if not filled:
        raise InputError(say(nothing))
    if len(filled) > 1:
        things = enumeration([say(f"inputs.{name}") for name, _ in filled])
        raise InputError(say(several, things=things[:1].upper() + things[1:]))
    return filled[0]


def _link(text: str) -> str:
    """The link. Anything else stops here: further on a text that is no link would be a path, and a
    visitor may not name files of this machine."""
    if not is_web_link(text):
        raise InputError(say("inputs.no_link"))
    return text

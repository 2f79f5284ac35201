"""`voices`: list the voices that speak words."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from kolbo_demo.cli.backend import Json


def voices(
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="A language, such as de; all if not said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the voices for --say; the first of a language is its default."""
    from kolbo_demo.engine.voices import voices as available

    chosen = available(language)
    if as_json:
        print(json.dumps([{**asdict(voice), "sample_rate": voice.sample_rate} for voice in chosen]))
        return
    for voice in chosen:
        notes = [voice.gender, f"{voice.sample_rate} Hz", voice.licence]
        notes += [] if voice.natural else ["small"]
        print(f"{voice.locale:<6} {voice.name:<9} {', '.join(notes)}")

"""What stands in the fields of the page, read for whoever generates with it or shows it."""

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kolbo_demo.generation import GenerationRequest
from kolbo_demo.options import Trim
from kolbo_demo.ui.inputs import request_of
from kolbo_demo.ui.panels.face_picker import Choice, Seen
from kolbo_demo.ui.panels.preflight import at_hand
from kolbo_demo.ui.panels.trim import checked, edit_of
from kolbo_demo.ui.panels.voice import Heard, as_said


@dataclass(frozen=True)
class Fields:
    """What stands there, in the order in which an event of the page sends it."""

    image: str | None = None
    video: str | None = None
    source_url: str | None = None
    audio: str | None = None
    audio_url: str | None = None
    words: str | None = None
    prompt: str | None = None
    model: str | None = None
    """Identifier; empty for Smart Select."""
    choice: Choice | None = None
    seen: Seen = field(default_factory=Seen)
    speed: float = 1.0
    heard: Heard = field(default_factory=Heard)
    mark: bool = False
    insist: bool = False
    edit: Trim = field(default_factory=Trim)

    def request(self) -> GenerationRequest:
        """What is asked for with it. Raises `UnusableError`."""
        request = request_of(
            self.image,
            self.video,
            self.source_url,
            self.audio,
            self.audio_url,
            self.words,
            self.prompt,
            self.model,
            self.choice.clicked if self.choice else None,
        )
        return replace(
            request,
            options=request.options.replace(
                face_at=self.choice.at if self.choice else 0.0,
                speed=self.speed,
                trim=checked(self.edit),
                mark=self.mark,
                insist=self.insist,
            ),
        )


_SENT = len(dataclasses.fields(Fields)) - 1
"""All but the edit, which `edit_of` makes of `Edits.values`."""


def read(*values: Any) -> Fields:
    """The fields out of an event's values: those of `Fields` but for the edit, then `Edits.values`.

    An event may come before a new source or voice has been looked at: then what is known is of
    another one, and left out.
    """
    fields, cuts = Fields(*values[:_SENT]), values[_SENT:]
    given = fields.image or fields.video
    path = Path(given) if given else None
    link = "" if path else (fields.source_url or "").strip()
    if (fields.seen.path, fields.seen.link) != (path, link):
        fields = replace(fields, seen=Seen(), choice=None)
    heard, recording = fields.heard, Path(fields.audio) if fields.audio else None
    if heard.path != recording or heard.said not in {None, as_said(fields.words, fields.speed)}:
        fields = replace(fields, heard=Heard())
    return replace(fields, edit=edit_of(at_hand(fields.seen, fields.heard), cuts))

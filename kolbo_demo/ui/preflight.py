"""What will happen, told before anything is sent: source, voice, lengths, price, time, warnings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.contract import Model
from kolbo_demo.media import MediaError
from kolbo_demo.preflight import Analyst, Face, Source, Stretch, Voice
from kolbo_demo.ui import pace, views
from kolbo_demo.ui.access import LOCAL
from kolbo_demo.ui.face_picker import Choice, FacePicker, Seen
from kolbo_demo.ui.kept import Kept
from kolbo_demo.ui.models import ModelPicker, Offers, shared
from kolbo_demo.ui.texts import say

SAME_SECONDS = 0.08
"""Two frames: nobody sees or hears such a difference."""
QUIET_DECIBELS = -40.0
CLIPPED_SHARE = 0.001


@dataclass(frozen=True, eq=False)  # Gradio hashes a state to see that it changed
class Looked:
    """Where a clip shows no usable face, once it was looked through."""

    path: Path | None = None
    stretches: Sequence[Stretch] = ()
    until: float = 0.0
    """Seconds up to which was looked."""


@dataclass(frozen=True, eq=False)  # Gradio hashes a state to see that it changed
class Heard:
    """The recording that is given."""

    voice: Voice | None = None
    problem: str = ""
    """One sentence where it cannot be used."""


@dataclass(frozen=True)
class Given:
    """All that the outlook depends on."""

    seen: Seen
    looked: Looked
    heard: Heard
    choice: Choice | None
    offers: Offers
    model: str
    """Identifier; empty for Smart Select."""
    backend: str

    @property
    def meant(self) -> list[Model]:
        """The models that may do the work."""
        source = self.seen.source
        return self.offers.meant(self.model, source.kind if source else None)

    @property
    def speaker(self) -> Face | None:
        """The face that will speak, as far as the picture tells."""
        faces = self.seen.faces or []
        if self.choice:
            index = self.choice.face(faces)
            return None if index is None else faces[index]
        return max(faces, key=lambda face: face.scale, default=None)


class Preflight:
    """The panel. It looks at files in children, and nothing waits for it."""

    def __init__(self, analyst: Analyst, kept: Kept) -> None:
        self._analyst = analyst
        self._kept = kept

    def lay_out(self) -> None:
        """The panel, where the caller stands in the layout."""
        self._panel = gr.HTML("", elem_id="preflight", apply_default_css=False)
        self._looked = gr.State(Looked())
        self._heard = gr.State(Heard())

    def follow(
        self, picker: FacePicker, audio: gr.Audio, models: ModelPicker, backend: gr.Radio
    ) -> None:
        """Tells anew whenever something changes."""
        quiet: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "concurrency_limit": None,
            "trigger_mode": "always_last",
        }
        picker.seen.change(self._look, [picker.seen, self._looked], self._looked, **quiet)
        audio.change(self._hear, audio, self._heard, **quiet)
        told = [
            picker.seen,
            self._looked,
            self._heard,
            picker.choice,
            models.offers,
            models.choice,
            backend,
        ]
        gr.on([part.change for part in told], self._tell, told, self._panel, **quiet)

    def _look(self, seen: Seen, before: Looked) -> Looked:
        if seen.path == before.path:
            return before
        if seen.path is None or seen.source is None or seen.source.kind != "video":
            return Looked(seen.path)
        try:
            return Looked(seen.path, *self._analyst.stretches(seen.path))
        except MediaError:  # what is wrong with the clip is told beside it
            return Looked(seen.path)

    def _hear(self, path: str | None) -> Heard:
        if not path:
            return Heard()
        try:
            return Heard(self._analyst.voice(Path(path)))
        except MediaError as error:
            return Heard(problem=str(error))

    def _tell(self, *parts: Any) -> str:
        given = Given(*parts)
        voice, expected = given.heard.voice, None
        if given.backend == LOCAL and voice and given.seen.source and len(given.meant) == 1:
            expected = pace.expected(self._kept, given.meant[0].identifier, voice.duration)
        return outlook(given, expected)


def outlook(given: Given, expected: float | None = None) -> str:
    """The panel as HTML, empty while nothing is given. `expected` are seconds that it will take."""
    rows = list(_rows(given, expected))
    warnings = "".join(f"<li>{escape(text)}</li>" for text in _warnings(given))
    if not rows and not warnings:
        return ""
    html = f'<h2 id="preflight-title">{escape(say("preflight.title"))}</h2>'
    if rows:
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{fact}</dd>" for name, fact in rows)
        html += f"<dl>{facts}</dl>"
    if warnings:
        html += f'<ul class="warnings">{warnings}</ul>'
    return f'<section class="card" aria-labelledby="preflight-title">{html}</section>'


def _rows(given: Given, expected: float | None) -> Iterator[tuple[str, str]]:
    """Label and HTML of what is known."""
    source, voice = given.seen.source, given.heard.voice
    if source:
        yield say("preflight.source"), _listed(_of_source(source, given.seen))
    if given.looked.path == given.seen.path and given.looked.stretches:
        yield say("preflight.unseen"), _stretches(given.looked, source)
    if voice:
        parts = [voice.format.upper(), clock(voice.duration), _size(voice.bytes)]
        yield say("preflight.voice"), _listed(parts)
    if source and voice:
        yield say("preflight.result"), escape(_fitted(source, voice, given.backend))
    if voice and (price := _price(given, voice.duration)):
        yield say("preflight.price"), escape(price)
    if expected:
        time = views.clock(max(expected, 1))
        yield say("preflight.time"), escape(say("preflight.expected", time=time))


def _listed(parts: Iterable[str]) -> str:
    """HTML of facts beside each other, each in its own direction."""
    return " · ".join(f"<bdi>{escape(part)}</bdi>" for part in parts)


def _of_source(source: Source, seen: Seen) -> Iterator[str]:
    yield say("preflight.clip" if source.kind == "video" else "preflight.picture")
    yield source.format.upper()
    yield f"{source.width}×{source.height}"
    if source.duration is not None:
        yield clock(source.duration)
    if source.fps:
        rate = f"{source.fps:.2f}".rstrip("0").rstrip(".")
        yield say("preflight.variable" if source.variable else "preflight.rate", rate=rate)
    yield _size(source.bytes)
    if source.kind == "video":
        yield say("preflight.with_sound" if source.has_audio else "preflight.without_sound")
    if seen.faces is not None:
        count = len(seen.faces)
        yield say("preflight.one_face") if count == 1 else say("preflight.faces", count=count)


def _stretches(looked: Looked, source: Source | None) -> str:
    items = ""
    for part in looked.stretches:
        words = say(
            "preflight.side" if part.side else "preflight.no_face",
            start=clock(part.start),
            end=clock(part.end),
        )
        items += (
            f'<li><img alt="" src="data:image/jpeg;base64,{part.jpeg}"><span>{escape(words)}</span>'
        )
    more = ""
    if source and source.duration and looked.until < source.duration - SAME_SECONDS:
        more = views.note(say("preflight.looked_until", time=clock(looked.until)))
    return f'<ul class="stretches">{items}</ul>{more}'


def _fitted(source: Source, voice: Voice, backend: str) -> str:
    """How clip and voice are made equally long."""
    length = clock(voice.duration)
    if source.duration is None or abs(source.duration - voice.duration) <= SAME_SECONDS:
        return say("preflight.as_voice", time=length)
    if backend != LOCAL:
        return say("preflight.model_decides", clip=clock(source.duration), voice=length)
    longer = source.duration > voice.duration
    return say("preflight.clip_cut" if longer else "preflight.clip_bounces", time=length)


def _price(given: Given, seconds: float) -> str:
    """Credits; empty while unknown."""
    prices = [model.credit for model in given.meant]
    if not prices or None in prices:
        return ""
    least, most = (edge(price or 0 for price in prices) * seconds for edge in (min, max))
    if most == 0:
        return say("preflight.free")
    low, high = _credits(least), _credits(most)
    text = say("preflight.credits", credits=low if low == high else f"{low}-{high}")
    if given.offers.balance is not None:
        text += " · " + say("preflight.balance", credits=f"{given.offers.balance:g}")
    return text


def _credits(count: float) -> str:
    return f"{count:.0f}" if count >= 10 else f"{count:.1f}".removesuffix(".0")


def _warnings(given: Given) -> Iterator[str]:
    seen, voice = given.seen, given.heard.voice
    face = given.speaker
    if face and face.small:
        yield say("warn.small")
    if face and face.sideways:
        yield say("warn.side")
    if given.heard.problem:
        yield given.heard.problem
    if voice:
        yield from _about_voice(voice)
    if seen.source:
        yield from _against_limits(given.meant, seen.source, voice)
    least = min((model.credit or 0 for model in given.meant), default=0)
    balance = given.offers.balance
    if voice and balance is not None and least * voice.duration > balance:
        yield say("warn.balance")


def _about_voice(voice: Voice) -> Iterator[str]:
    if voice.speech is False:
        yield say("warn.no_speech")
    elif voice.peak < QUIET_DECIBELS:
        yield say("warn.quiet")
    if voice.clipped > CLIPPED_SHARE:
        yield say("warn.clipped")
    if voice.speech and voice.silences:
        start, end = max(voice.silences, key=lambda span: span[1] - span[0])
        yield say("warn.silence", start=clock(start), end=clock(end))


def _against_limits(models: Sequence[Model], source: Source, voice: Voice | None) -> Iterator[str]:
    """What no model that may do the work takes."""
    kinds = {kind for model in models for kind in model.types if kind.startswith("lipsync-")}
    if kinds and f"lipsync-{source.kind}" not in kinds:
        yield say("warn.no_clips" if source.kind == "video" else "warn.no_pictures")
    lengths = {"audio": voice.duration if voice else None, "video": source.duration}
    for what, seconds in lengths.items():
        least, most = (shared(models, f"{end}_{what}_duration") for end in ("min", "max"))
        if seconds is None:
            continue
        if most and seconds > most:
            yield say(f"warn.{what}_long", time=clock(seconds), limit=clock(most))
        if least and seconds < least:
            yield say(f"warn.{what}_short", time=clock(seconds), limit=clock(least))
    follows = shared(models, "audio_max_follows_video_duration")
    if follows and voice and source.duration and voice.duration > source.duration + SAME_SECONDS:
        yield say("warn.follows")
    size = shared(models, "max_file_size")
    if size and max(source.bytes, voice.bytes if voice else 0) > size:
        yield say("warn.size", limit=f"{size / 2**20:.0f}")


def clock(seconds: float) -> str:
    """Minutes and seconds with tenths."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _size(count: int) -> str:
    return say("preflight.size", size=f"{max(count / 1e6, 0.1):.1f}")

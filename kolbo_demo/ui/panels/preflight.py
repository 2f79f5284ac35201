"""Summary before anything is sent: source, voice, lengths, price, time and warnings."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.contract import Model
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Span, Trim
from kolbo_demo.preflight import Face, FacelessSpan, Inspector, Source, Voice
from kolbo_demo.preflight.trim import LENGTH_TOLERANCE_SECONDS, result_seconds
from kolbo_demo.ui.access.backend import LOCAL
from kolbo_demo.ui.background import eta
from kolbo_demo.ui.events import INSPECTING, LATEST, changes
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.panels.face_picker import Choice, FacePicker, SourceFacts, speaking
from kolbo_demo.ui.panels.model_picker import ModelPicker, Offers, shared
from kolbo_demo.ui.panels.trim import TrimPanel, edit_of, is_empty, trim_inputs
from kolbo_demo.ui.panels.voice import VoiceFacts, VoicePanel
from kolbo_demo.ui.storage.generation_store import GenerationStore

QUIET_DECIBELS = -40.0
CLIPPED_SHARE = 0.001


@dataclass(frozen=True, eq=False)  # Gradio hashes a state to see that it changed
class FacelessSpans:
    """Where a clip shows no usable face, once it was looked through."""

    path: Path | None = None
    stretches: Sequence[FacelessSpan] = ()
    until: float = 0.0
    """Seconds up to which was looked."""


@dataclass(frozen=True)
class PreflightInputs:
    """All that the outlook depends on."""

    source_facts: SourceFacts
    faceless: FacelessSpans
    voice_facts: VoiceFacts
    choice: Choice | None
    offers: Offers
    model: str
    """Identifier; empty for Smart Select."""
    backend: str
    edit: Trim

    @property
    def candidates(self) -> list[Model]:
        """The models that may do the work."""
        source = self.source_facts.source
        return self.offers.candidates(self.model, source.kind if source else None)

    @property
    def speaker(self) -> Face | None:
        """The face that will speak, as far as the picture tells."""
        return speaking(self.choice, self.source_facts.faces)


class Preflight:
    """The panel. It looks at files in children, and nothing waits for it."""

    def __init__(self, inspector: Inspector, store: GenerationStore) -> None:
        self._inspector = inspector
        self._store = store

    def lay_out(self) -> None:
        """The panel, where the caller stands in the layout."""
        with gr.Accordion(
            shown("preflight.title"), visible=False, elem_id="preflight", elem_classes="card"
        ) as self.fold:
            self._panel = gr.HTML("", apply_default_css=False)
        self._faceless = gr.State(FacelessSpans())

    def follow(
        self,
        picker: FacePicker,
        voice_panel: VoicePanel,
        models: ModelPicker,
        backend: gr.Radio,
        trim_panel: TrimPanel,
    ) -> None:
        """Tells anew whenever something changes."""
        picker.source_facts.change(
            self._find_faceless,
            [picker.source_facts, self._faceless],
            self._faceless,
            **LATEST | INSPECTING,
        )
        inputs = [
            picker.source_facts,
            self._faceless,
            voice_panel.voice_facts,
            picker.choice,
            models.offers,
            models.choice,
            backend,
            *trim_panel.values,
        ]
        gr.on(changes(inputs), self._refresh, inputs, [self.fold, self._panel], **LATEST)

    def _find_faceless(self, source_facts: SourceFacts, before: FacelessSpans) -> FacelessSpans:
        if source_facts.path == before.path:
            return before
        if (
            source_facts.path is None
            or source_facts.source is None
            or source_facts.source.kind != "video"
        ):
            return FacelessSpans(source_facts.path)
        try:
            return FacelessSpans(
                source_facts.path, *self._inspector.find_faceless_spans(source_facts.path)
            )
        except MediaError:  # what is wrong with the clip is told beside it
            return FacelessSpans(source_facts.path)

    def _refresh(
        self,
        source_facts: SourceFacts,
        faceless: FacelessSpans,
        voice_facts: VoiceFacts,
        *rest: Any,
    ) -> tuple[Any, str]:
        choice, offers, model, backend, *values = rest
        edit = edit_of(trim_inputs(source_facts, voice_facts), tuple(values))
        given = PreflightInputs(
            source_facts, faceless, voice_facts, choice, offers, model, backend, edit
        )
        expected = None
        if given.backend == LOCAL and source_facts.source:
            expected = eta.estimate(self._store, backend, given.candidates, result_seconds(edit))
        html = outlook(given, expected)
        # Folded away by a result, it opens again for a warning only.
        fold: dict[str, Any] = {"visible": bool(html)}
        if any(_warnings(given)):
            fold["open"] = True
        return gr.update(**fold), html


def outlook(given: PreflightInputs, expected: float | None = None) -> str:
    """The panel as HTML, empty while nothing is given. `expected` are seconds that it will take."""
    rows = list(_rows(given, expected))
    warnings = "".join(f"<li>{escape(text)}</li>" for text in _warnings(given))
    if not rows and not warnings:
        return ""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{fact}</dd>" for name, fact in rows)
    html = f"<dl>{facts}</dl>" if rows else ""
    return html + (f'<ul class="warnings">{warnings}</ul>' if warnings else "")


def _rows(given: PreflightInputs, expected: float | None) -> Iterator[tuple[str, str]]:
    """Label and HTML of what is known."""
    source, voice = given.source_facts.source, given.voice_facts.voice
    if source:
        yield say("preflight.source"), _listed(_of_source(source, given))
    if given.faceless.path == given.source_facts.path and (unseen := _unseen(given)):
        yield say("preflight.unseen"), _stretches(unseen, given.faceless, source)
    if voice:
        length = _length(voice.duration, given.edit.voice)
        notes = [views.translate_note(text) for text in voice.notes]
        yield (
            say("preflight.voice"),
            _listed([voice.format.upper(), length, _size(voice.bytes), *notes]),
        )
    if source and voice:
        yield say("preflight.result"), escape(_fitted(given))
    if voice and (price := _price(given, result_seconds(given.edit))):
        yield say("preflight.price"), escape(price)
    if expected:
        time = views.clock(max(expected, 1))
        yield say("preflight.time"), escape(say("preflight.expected", time=time))


def _listed(parts: Iterable[str]) -> str:
    """HTML of facts beside each other, each in its own direction."""
    return " · ".join(f"<bdi>{escape(part)}</bdi>" for part in parts)


def _length(whole: float, part: Span | None) -> str:
    if part is None:
        return clock(whole)
    start, end = part
    return say("preflight.part", start=clock(start), end=clock(end), whole=clock(whole))


def _of_source(source: Source, given: PreflightInputs) -> Iterator[str]:
    yield say("preflight.clip" if source.kind == "video" else "preflight.picture")
    yield source.format.upper()
    yield f"{source.width}×{source.height}"
    if source.duration is not None:
        yield _length(source.duration, given.edit.clip)
    if source.fps:
        rate = f"{source.fps:.2f}".rstrip("0").rstrip(".")
        yield say("preflight.variable" if source.variable else "preflight.rate", rate=rate)
    yield _size(source.bytes)
    if source.kind == "video":
        yield say("preflight.with_sound" if source.has_audio else "preflight.without_sound")
    if given.source_facts.faces is not None:
        count = len(given.source_facts.faces)
        yield say("preflight.one_face") if count == 1 else say("preflight.faces", count=count)
    if given.backend == LOCAL:
        yield from map(views.translate_note, source.notes)


def _unseen(given: PreflightInputs) -> list[FacelessSpan]:
    """The stretches without a usable face that lie in the part that is used."""
    start, end = given.edit.clip or (0.0, math.inf)
    return [part for part in given.faceless.stretches if part.end > start and part.start < end]


def _stretches(
    stretches: Sequence[FacelessSpan], faceless: FacelessSpans, source: Source | None
) -> str:
    items = ""
    for part in stretches:
        words = say(
            "preflight.side" if part.side else "preflight.no_face",
            start=clock(part.start),
            end=clock(part.end),
        )
        items += (
            f'<li><img alt="" src="data:image/jpeg;base64,{part.jpeg}"><span>{escape(words)}</span>'
        )
    more = ""
    if source and source.duration and faceless.until < source.duration - LENGTH_TOLERANCE_SECONDS:
        more = views.note(say("preflight.looked_until", time=clock(faceless.until)))
    return f'<ul class="stretches">{items}</ul>{more}'


def _fitted(given: PreflightInputs) -> str:
    """How clip and voice are made equally long."""
    edit, clip, voice = given.edit, given.edit.clip_seconds, given.edit.voice_seconds
    if edit.mode:
        return f"{clock(result_seconds(edit))} · {say(f'edit.{edit.mode}')}"
    if not clip or abs(clip - voice) <= LENGTH_TOLERANCE_SECONDS:
        return say("preflight.as_voice", time=clock(voice))
    if given.backend != LOCAL:
        return say("preflight.model_decides", clip=clock(clip), voice=clock(voice))
    key = "preflight.clip_cut" if clip > voice else "preflight.clip_bounces"
    return say(key, time=clock(voice))


def _price(given: PreflightInputs, seconds: float) -> str:
    """Credits; empty while unknown."""
    prices = [model.credit for model in given.candidates]
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


def _warnings(given: PreflightInputs) -> Iterator[str]:
    source_facts, voice = given.source_facts, given.voice_facts.voice
    face = given.speaker
    if face and face.hidden:
        yield say("warn.hidden")
    if face and face.small:
        yield say("warn.small")
    if face and face.sideways:
        yield say("warn.side")
    if given.voice_facts.problem:
        yield given.voice_facts.problem
    if is_empty(given.edit):
        yield say("edit.empty")
    if voice:
        yield from _about_voice(voice, given.edit)
    if source_facts.source:
        yield from _against_limits(given, source_facts.source, voice)
    least = min((model.credit or 0 for model in given.candidates), default=0)
    balance = given.offers.balance
    if balance is not None and least * result_seconds(given.edit) > balance:
        yield say("warn.balance")


def _about_voice(voice: Voice, edit: Trim) -> Iterator[str]:
    if voice.speech is False:
        yield say("warn.no_speech")
    elif voice.peak < QUIET_DECIBELS:
        yield say("warn.quiet")
    if voice.clipped > CLIPPED_SHARE:
        yield say("warn.clipped")
    first, last = edit.voice or (0.0, math.inf)
    silences = [span for span in voice.silences if span[1] > first and span[0] < last]
    if voice.speech and silences:
        start, end = max(silences, key=lambda span: span[1] - span[0])
        yield say("warn.silence", start=clock(start), end=clock(end))


def _against_limits(given: PreflightInputs, source: Source, voice: Voice | None) -> Iterator[str]:
    """Warnings about inputs that none of the candidate models accepts."""
    models, edit = given.candidates, given.edit
    kinds = {kind for model in models for kind in model.types if kind.startswith("lipsync-")}
    if kinds and f"lipsync-{source.kind}" not in kinds:
        yield say("warn.no_clips" if source.kind == "video" else "warn.no_pictures")
    clip, sound = edit.clip_seconds, edit.voice_seconds
    if edit.mode:
        clip = sound = result_seconds(edit)
    for what, seconds in (("audio", sound), ("video", clip)):
        least, most = (shared(models, f"{end}_{what}_duration") for end in ("min", "max"))
        if not seconds:
            continue
        if most and seconds > most:
            yield say(f"warn.{what}_long", time=clock(seconds), limit=clock(most))
        if least and seconds < least:
            yield say(f"warn.{what}_short", time=clock(seconds), limit=clock(least))
    follows = shared(models, "audio_max_follows_video_duration")
    if follows and clip and sound > clip + LENGTH_TOLERANCE_SECONDS:
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

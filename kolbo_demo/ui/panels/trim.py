"""Folded away below the options: which part of clip and voice is used, what becomes of different
lengths, and whether the picture says that it is AI-generated."""

from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from kolbo_demo.client import InputError
from kolbo_demo.options import Span, Trim
from kolbo_demo.preflight import Source, Voice
from kolbo_demo.preflight.trim import MODES, applicable_modes
from kolbo_demo.ui.events import LATEST
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels.face_picker import SourceFacts
from kolbo_demo.ui.panels.voice import VoiceFacts

AUTOMATIC = ""
STEP = 0.01
"""Seconds between two places of a slider."""
SHORTEST = 0.1
"""Seconds of a part that is left."""

TrimInputs = tuple[Source | None, Voice | None, bool]
"""The source and the voice that were looked at, and whether the voice is a file: of words there is
no part to be chosen, they can be written shorter."""


class TrimPanel:
    """The fold."""

    def __init__(self) -> None:
        # No accordion of Gradio's: a closed one loses updates of `visible="hidden"`, and a radio
        # with `visible=False` loses a value that comes together with `visible=True`.
        gr.HTML(
            shown(_fold),
            apply_default_css=False,
            elem_id="more",
        )
        with gr.Column(elem_id="more-room"):
            with gr.Row():
                self._clip = [_slider("clip_from"), _slider("clip_to")]
            with gr.Row():
                self._voice = [_slider("voice_from"), _slider("voice_to")]
            # All of them from the start, and those that fit are seen (`page.css`): Gradio refuses
            # an event with a choice that has just ceased to be one.
            self._mode = gr.Radio(
                [
                    (shown("edit.automatic"), AUTOMATIC),
                    *((shown(f"edit.{name}"), name) for name in MODES),
                ],
                value=AUTOMATIC,
                label=shown("edit.mode"),
                elem_id="length-mode",
                visible="hidden",
            )
            self.mark = gr.Checkbox(
                label=shown("edit.mark"), info=shown("edit.mark_hint"), elem_id="mark"
            )
        # What the sliders stand for. No state: it has to arrive in the browser along with them.
        self._known = gr.Textbox(_key((0.0, 0.0)), visible="hidden", show_label=False)
        self.values = [self._known, *self._clip, *self._voice, self._mode]
        """Components whose values `edit_of` reads."""

    def follow(self, source_facts: gr.State, voice_facts: gr.State) -> None:
        """Offers what is possible for the source and the voice."""
        inputs = [source_facts, voice_facts, *self.values]
        gr.on([source_facts.change, voice_facts.change], _ranges, inputs, self.values, **LATEST)
        moved = [slider.input for slider in (*self._clip, *self._voice)]
        gr.on(moved, _modes, inputs, self._mode, **LATEST)


def trim_inputs(source_facts: SourceFacts, voice_facts: VoiceFacts) -> TrimInputs:
    """The inputs that can be trimmed."""
    return source_facts.source, voice_facts.voice, voice_facts.path is not None


def as_chosen(given: TrimInputs, edit: Trim) -> tuple[Any, ...]:
    """Values of `TrimPanel.values` for an edit of these inputs."""
    lengths, parts = _lengths(given), (edit.clip, edit.voice)
    sliders, spans = list[Any](), list[float]()
    for length, part in zip(lengths, parts, strict=True):
        sliders += _pair(length, part)
        spans += part or (0.0, length)
    known, mode = _key(lengths), edit.mode or AUTOMATIC
    radio: dict[str, Any] = {"value": mode} | _offered(given, known, *spans, mode)
    return known, *sliders, gr.Radio(**radio)


def _fold() -> str:
    return f'<details class="fold"><summary>{escape(say("edit.title"))}</summary></details>'


def edit_of(given: TrimInputs, values: tuple[Any, ...]) -> Trim:
    """The edit on the page, without parts that were set for other inputs."""
    known, clip_from, clip_to, voice_from, voice_to, mode = values
    clip_length, voice_length = _lengths(given)
    same_clip, same_voice = _same(_key((clip_length, voice_length)), known)
    clip = _part(clip_length, clip_from, clip_to) if same_clip else None
    spoken = _part(voice_length, voice_from, voice_to) if same_voice else None
    voice = given[1]
    edit = Trim(
        clip=clip,
        voice=spoken,
        clip_seconds=_seconds(clip) if clip else clip_length,
        voice_seconds=_seconds(spoken) if spoken else voice.duration if voice else 0.0,
    )
    fits = {way.name for way in applicable_modes(edit.clip_seconds, edit.voice_seconds)}
    return replace(edit, mode=mode) if mode in fits else edit


def is_empty(edit: Trim) -> bool:
    """Whether an end lies before its beginning."""
    return any(span and _seconds(span) < SHORTEST for span in (edit.clip, edit.voice))


def checked(edit: Trim) -> Trim:
    """The same. Raises `InputError` where nothing is left."""
    if is_empty(edit):
        raise InputError(say("edit.empty"))
    return edit


def _slider(name: str) -> gr.Slider:
    return gr.Slider(
        0,
        1,
        0,
        label=shown(f"edit.{name}"),
        step=STEP,
        min_width=160,
        elem_id=name.replace("_", "-"),
        buttons=[],
        visible="hidden",
    )


def _part(length: float, start: float | None, end: float | None) -> Span | None:
    """None where it is the whole."""
    start, end = start or 0.0, end or 0.0
    whole = start < 2 * STEP and end > length - 2 * STEP
    return None if not length or whole else (start, min(end, length))


def _seconds(span: Span) -> float:
    return max(span[1] - span[0], 0.0)


def _lengths(given: TrimInputs) -> tuple[float, float]:
    """Seconds that there are to choose a part from: of the clip, and of the voice."""
    source, voice, cuttable = given
    clip = (source.duration or 0.0) if source else 0.0
    return clip, voice.duration if voice and cuttable else 0.0


def _key(lengths: tuple[float, float]) -> str:
    return " ".join(f"{seconds:.3f}" for seconds in lengths)


def _same(key: str, known: str | None) -> list[bool]:
    """Whether two keys are of the same clip, and of the same voice."""
    now, before = key.split(), (known or "").split()
    return [seconds in before[place : place + 1] for place, seconds in enumerate(now)]


def _ranges(source_facts: SourceFacts, voice_facts: VoiceFacts, *values: Any) -> tuple[Any, ...]:
    """The sliders anew where there is another clip or voice; where it is the same, as they are."""
    given = trim_inputs(source_facts, voice_facts)
    lengths, spans, sliders = _lengths(given), list(values[1:5]), list[Any]()
    known = _key(lengths)
    for place, (length, same) in enumerate(zip(lengths, _same(known, values[0]), strict=True)):
        if same:
            sliders += [gr.skip(), gr.skip()]
        else:
            sliders += _pair(length)
            spans[2 * place : 2 * place + 2] = 0.0, length
    return known, *sliders, gr.Radio(**_offered(given, known, *spans, values[5]))


def _pair(length: float, part: Span | None = None) -> list[gr.Slider]:
    if not length:
        return [gr.Slider(value=0, visible="hidden"), gr.Slider(value=0, visible="hidden")]
    most = round(length, 2)
    ends = part or (0.0, most)
    return [gr.Slider(minimum=0, maximum=most, value=round(end, 2), visible=True) for end in ends]


def _modes(source_facts: SourceFacts, voice_facts: VoiceFacts, *values: Any) -> gr.Radio:
    return gr.Radio(**_offered(trim_inputs(source_facts, voice_facts), *values))


def _offered(given: TrimInputs, *values: Any) -> dict[str, Any]:
    edit = edit_of(given, (*values[:5], AUTOMATIC))
    fits = {mode.name for mode in applicable_modes(edit.clip_seconds, edit.voice_seconds)}
    hidden = [f"without-{name}" for name in MODES if name not in fits]
    update: dict[str, Any] = {"elem_classes": hidden, "visible": True if fits else "hidden"}
    # While only one of the two is known the other may still be inspected: the way is kept for it.
    if given[0] and given[1] and values[5] not in fits | {AUTOMATIC}:
        update["value"] = AUTOMATIC
    # Otherwise the value is left alone: the visitor may have chosen another one meanwhile.
    return update

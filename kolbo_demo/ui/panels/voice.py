"""The voice before it is sent: how loud the microphone is, what a recording is, how words sound."""

import tempfile
import wave
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from kolbo_demo.engine import EngineError
from kolbo_demo.engine.voices import (
    MAX_SPEED,
    MIN_SPEED,
    check_words,
    choose_voice,
    speak,
    voices,
)
from kolbo_demo.engine.voices import Voice as SpeechVoice
from kolbo_demo.fair_lock import CURRENT_CALLER
from kolbo_demo.generation import SPEECH_SEMAPHORE
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options
from kolbo_demo.preflight import Inspector, Voice
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.events import INSPECTING
from kolbo_demo.ui.i18n.errors import describe
from kolbo_demo.ui.i18n.texts import language, languages, say, shown

Words = tuple[str, float, str]
"""Words, the speed at which they are spoken, and the name of a chosen voice or nothing."""

_SCRIPT = Path(__file__).with_name("level_meter.js")


def _meter() -> str:
    name = escape(say("voice.level"), quote=True)
    return (
        f'<div class="level" role="meter" aria-label="{name}" aria-valuemin="0" '
        'aria-valuemax="100" aria-valuenow="0" hidden><i></i></div>'
    )


@dataclass(frozen=True, eq=False)  # Gradio hashes a state to see that it changed
class VoiceFacts:
    """The voice that is given, as far as it is at hand."""

    path: Path | None = None
    """Of a recording; None for words, for links and where there is none."""
    spoken_words: Words | None = None
    """Words that were listened to."""
    voice: Voice | None = None
    problem: str = ""
    """One sentence where it cannot be used."""


class VoicePanel:
    """The level meter, and what there is to choose and to hear of words."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self.voice_facts = gr.State(VoiceFacts())

    def lay_out_meter(self) -> None:
        """The meter, where the caller stands in the layout."""
        gr.HTML(
            shown(_meter),
            js_on_load=_SCRIPT.read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="level",
        )

    def lay_out_words(self) -> None:
        """Voice, speed, button and player, where the caller stands in the layout."""
        self.voice_name = gr.Dropdown(
            [(shown("voice.automatic"), ""), *_choices()],
            value="",
            label=shown("voice.voice"),
            filterable=False,
            elem_id="voice-name",
        )
        with gr.Row(elem_id="words-row"):
            self.speed = gr.Slider(
                MIN_SPEED,
                MAX_SPEED,
                1,
                step=0.05,
                label=shown("voice.speed"),
                min_width=160,
                elem_id="speed",
                buttons=[],
            )
            self._listen = gr.Button(
                shown("voice.listen"), size="sm", min_width=96, scale=0, elem_id="listen"
            )
        self._player = gr.Audio(
            label=shown("voice.spoken"),
            interactive=False,
            autoplay=True,
            buttons=[],
            waveform_options=gr.WaveformOptions(show_recording_waveform=False),
            visible="hidden",
            elem_id="spoken",
        )
        self.given = [self.speed, self.voice_name, self._player, self.voice_facts]
        """Components that `as_given` fills."""

    def follow(self, audio: gr.Audio, words: gr.Textbox) -> None:
        """Looks at each recording as soon as it is there, speaks words when it is asked to."""
        quiet: dict[str, Any] = {"api_visibility": "private"}
        hidden: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
        spoken_words = [words, self.speed, self.voice_name]
        audio.change(
            self._recorded,
            [audio, self.voice_facts],
            self.voice_facts,
            **quiet,
            **hidden,
            **INSPECTING,
        )
        self._listen.click(
            self._speak,
            spoken_words,
            [self._player, self.voice_facts],
            show_progress_on=self._listen,
            concurrency_limit=1,  # it keeps a core busy
            **quiet,
        )
        gr.on(
            # Of the visitor, not of inputs that are used again.
            [words.blur, self.speed.input, self.voice_name.input],
            self._follow_words,
            [*spoken_words, self.voice_facts],
            [self.voice_name, self._player, self.voice_facts],
            concurrency_limit=None,
            **quiet,
            **hidden,
        )

    def as_given(self, recording: Path | None, words: str | None, options: Options) -> Any:
        """Values of `given` for an earlier voice. `recording` is its file, or that of the words as
        they were spoken."""
        voice_facts = self._inspect(str(recording)) if recording else VoiceFacts()
        known = {voice.name for voice in voices()}
        name = options.voice if options.voice in known else ""
        if words and recording:
            spoken_words = normalized_words(words, options.speed, name)
            voice_facts = VoiceFacts(spoken_words=spoken_words, voice=voice_facts.voice)
        return options.speed, name, _no_player(), voice_facts

    def _recorded(self, path: str | None, voice_facts: VoiceFacts) -> Any:
        """Words that were listened to stay heard when a recording goes."""
        return gr.skip() if not path and voice_facts.spoken_words else self._inspect(path)

    def _inspect(self, path: str | None) -> VoiceFacts:
        if not path:
            return VoiceFacts()
        try:
            return VoiceFacts(Path(path), voice=self._inspector.inspect_voice(Path(path)))
        except MediaError as error:
            return VoiceFacts(Path(path), problem=str(error))

    def _speak(self, request: gr.Request, words: str, speed: float, name: str) -> tuple[Any, Any]:
        """Speaks the words, or without words a sentence as a sample of the voice."""
        spoken_words = normalized_words(words, speed, name)
        CURRENT_CALLER.set(caller_of(request).visitor)
        try:
            chosen = voice_for(words, name)
            name, sample = chosen.name, not spoken_words[0]
            if sample:
                words = languages()[chosen.language]["voice.words_hint"]
            with tempfile.TemporaryDirectory(prefix="kolbo-page-") as folder:
                path = Path(folder) / "words.wav"
                with SPEECH_SEMAPHORE.acquire():
                    speak(words, path, voice=name, speed=speed)
                voice = None if sample else self._inspector.inspect_voice(path)
                with wave.open(str(path)) as file:
                    rate, sound = file.getframerate(), file.readframes(file.getnframes())
        except (MediaError, EngineError) as error:
            return _no_player(), VoiceFacts(spoken_words=spoken_words, problem=describe(error))
        player = gr.Audio((rate, np.frombuffer(sound, "<i2")), visible=True)
        facts = VoiceFacts(spoken_words=spoken_words, voice=voice)
        return player, gr.skip() if sample else facts

    def _follow_words(
        self, words: str, speed: float, name: str, voice_facts: VoiceFacts
    ) -> tuple[Any, Any, Any]:
        """Tells which voice will speak and whether it can, and forgets how other words sounded."""
        spoken_words = normalized_words(words, speed, name)
        automatic, problem = say("voice.automatic"), ""
        if spoken_words[0]:
            try:
                chosen = voice_for(words, name)
                check_words(words, chosen)
                automatic += "" if name else f": {_title(chosen)}"
            except MediaError as error:
                problem = describe(error)
        choices = gr.update(choices=[(automatic, ""), *_choices()])
        unchanged = not problem and voice_facts.spoken_words in {None, spoken_words}
        if unchanged or voice_facts.path:  # of a recording nothing is forgotten
            return choices, gr.skip() if spoken_words[0] else _no_player(), gr.skip()
        spoken = VoiceFacts(spoken_words=spoken_words, problem=problem)
        return choices, _no_player(), spoken if problem else VoiceFacts()


def normalized_words(words: str | None, speed: float, voice: str | None) -> Words:
    """The same for words that sound the same."""
    return " ".join((words or "").split()), speed, voice or ""


def voice_for(words: str, name: str | None) -> SpeechVoice:
    """The chosen voice, or one of the language of the words; where that cannot be guessed, of the
    page's language. Raises MediaError where there is none."""
    return choose_voice(words, name or None, default=language())


def _choices() -> list[tuple[str, str]]:
    return [(_title(voice), voice.name) for voice in voices()]


def _title(voice: SpeechVoice) -> str:
    """With the language as those who speak it call it."""
    return f"{languages()[voice.language]['name']} · {voice.title}"


def _no_player() -> gr.Audio:
    return gr.Audio(None, visible="hidden")

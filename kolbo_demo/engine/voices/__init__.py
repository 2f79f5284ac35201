"""Text to speech: voices of several languages, offline.

>>> speak("Guten Morgen!", Path("words.wav"), language="de")
"""

import logging
import queue
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.engine import EngineError
from kolbo_demo.engine.voices.catalog import (
    LANGUAGES,
    MAX_CHARACTERS,
    SpeechError,
    Voice,
    find_voice,
    voices,
)
from kolbo_demo.engine.voices.language import guess_language
from kolbo_demo.process.child import Child, ChildFailedError, Message, MessageQueue
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.process.fork_server import ForkServer

__all__ = [
    "LANGUAGES",
    "MAX_CHARACTERS",
    "MAX_SPEED",
    "MIN_SPEED",
    "Speech",
    "SpeechError",
    "SpeechUnavailableError",
    "UnreadableTextError",
    "Voice",
    "check_speed",
    "check_words",
    "choose_voice",
    "find_voice",
    "guess_language",
    "speak",
    "voices",
]

MIN_SPEED, MAX_SPEED = 0.5, 2.0
"""Range in which the voices stay clear; 1 is their own speed."""
CANCEL_POLL_SECONDS = 0.1
SHOWN_CHARACTERS = 12

OnSpoken = Callable[[int, int], None]
"""Sentences that are spoken, and all."""

_log = logging.getLogger(__name__)
_forks = ForkServer("kolbo_demo.engine.voices.worker", {"MALLOC_ARENA_MAX": "2"})


class UnreadableTextError(SpeechError):
    """The voice cannot read some characters of the text."""

    def __init__(self, characters: list[str]) -> None:
        """`characters` in the order of the text, each once."""
        shown = " ".join(characters[:SHOWN_CHARACTERS])
        more = " …" if len(characters) > SHOWN_CHARACTERS else ""
        super().__init__(
            "unreadable",
            f"This voice cannot read: {shown}{more}. Choose a voice of that language, or remove "
            "these characters.",
            characters=shown + more,
        )
        self.characters = characters


class SpeechUnavailableError(EngineError):
    """A library for text to speech is missing."""

    def __init__(self, library: str) -> None:
        super().__init__(
            f"Words cannot be spoken on this machine because a library is missing ({library}); "
            "give a recording instead."
        )
        self.library = library


@dataclass(frozen=True)
class Speech:
    """Words that were spoken."""

    voice: Voice
    seconds: float
    phonemes: tuple[tuple[str, float, float], ...]
    """IPA symbol, start and end in seconds; empty where the engine does not tell them."""


def check_speed(speed: float) -> None:
    """Raise MediaError for a speed out of range."""
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise SpeechError(
            "speed",
            f"The speed of speech must be from {MIN_SPEED:g} to {MAX_SPEED:g}; 1 is normal.",
            least=MIN_SPEED,
            most=MAX_SPEED,
        )


def choose_voice(
    text: str, voice: str | None = None, language: str | None = None, default: str = "en"
) -> Voice:
    """The named voice, or the default voice of the language, which is guessed from the text if it
    is None; `default` where the guess has nothing to go by. Raises MediaError."""
    if not voice and not language:
        language = guess_language(text, default)
    return find_voice(voice, language)


def check_words(text: str, voice: Voice) -> None:
    """Raise MediaError for a text that the voice cannot speak, as far as that is known before."""
    from kolbo_demo.engine.voices.written import plain, unreadable

    if not any(character.isalnum() for character in plain(text)):
        raise SpeechError("no_words", "There are no words to speak: type a sentence.")
    if len(text.strip()) > voice.max_characters:
        raise SpeechError(
            "too_long",
            f"The text is too long ({len(text.strip())} characters): at most "
            f"{voice.max_characters} are spoken.",
            length=len(text.strip()),
            most=voice.max_characters,
        )
    if characters := unreadable(text, voice):
        raise UnreadableTextError(characters)


def speak(
    text: str,
    output: Path,
    *,
    voice: str | None = None,
    language: str | None = None,
    speed: float = 1.0,
    on_spoken: OnSpoken = lambda *_: None,
    should_continue: Callable[[], bool] = lambda: True,
) -> Speech | None:
    """Write `text` as speech to a mono 16-bit WAV, whole or not at all; the same text gives the
    same file. None if `should_continue` returned False.

    `voice` and `language` as in `choose_voice`. The words are spoken in a confined child process.
    Raises MediaError for text that cannot be spoken or a speed out of range, EngineError if a
    library is missing.
    """
    check_speed(speed)
    chosen = choose_voice(text, voice, language)
    check_words(text, chosen)
    # The child can write to this folder only.
    with tempfile.TemporaryDirectory(prefix=".", dir=output.absolute().parent) as folder:
        result = _run(text.strip(), chosen, speed, folder, on_spoken, should_continue)
        if result is None:
            return None
        from kolbo_demo.engine.voices.worker import SOUND

        Path(folder, SOUND).replace(output)
    return Speech(
        chosen,
        float(result["seconds"]),
        tuple((str(symbol), float(start), float(end)) for symbol, start, end in result["phonemes"]),
    )


def _run(
    text: str,
    voice: Voice,
    speed: float,
    folder: str,
    on_spoken: OnSpoken,
    should_continue: Callable[[], bool],
) -> Message | None:
    from kolbo_demo.engine.voices.worker import time_limit

    messages: MessageQueue = queue.SimpleQueue()
    child = _forks.fork(messages)
    failure = None
    try:
        child.send(
            AllowedFiles(write=(folder,)), text=text, voice=voice.name, speed=speed, folder=folder
        )
        message = _await_result(
            child, messages, 2 * time_limit(text, voice, speed), on_spoken, should_continue
        )
    except ChildFailedError as error:
        failure = error
        if error.timed_out:
            raise SpeechError(
                "too_slow", "These words take too long to speak: shorten the text."
            ) from error
        raise _not_spoken() from error
    finally:
        errors = child.kill()
        if failure:
            _log.warning("speech failed: it %s. %s", failure, errors)
    return message and _result(message)


def _await_result(
    child: Child,
    messages: MessageQueue,
    timeout: float,
    on_spoken: OnSpoken,
    should_continue: Callable[[], bool],
) -> Message | None:
    deadline = time.monotonic() + timeout
    while should_continue():
        try:
            _, message = messages.get(timeout=CANCEL_POLL_SECONDS)
        except queue.Empty:
            if time.monotonic() > deadline:
                raise ChildFailedError("took too long", timed_out=True) from None
            continue
        if message is None:
            raise child.exit_error()
        if "done" not in message:
            return message
        on_spoken(int(message["done"]), int(message["of"]))
    return None


def _result(message: Message) -> Message:
    if missing := message.get("missing"):
        raise SpeechUnavailableError(str(missing))
    if "fault" in message:
        _log.error("speech failed: %s", message["fault"])
        raise _not_spoken()
    result: Message = message["result"]
    if "problem" in result:
        raise _not_spoken()
    return result


def _not_spoken() -> SpeechError:
    return SpeechError(
        "failed", "These words cannot be spoken: rephrase the text, or give a recording."
    )

"""The voices: language, engine, licence and limits of each."""

from dataclasses import dataclass
from typing import Literal

from kolbo_demo.media.sniff import MediaError

Engine = Literal["hibari", "kokoro", "pico"]
MAX_CHARACTERS = 5000
"""About six minutes of speech."""


class SpeechError(MediaError):
    """Words that cannot be spoken. The message states the problem and what to do."""

    def __init__(self, code: str, message: str, **values: object) -> None:
        """`code` names the problem for translation; `values` are those in the message."""
        super().__init__(message)
        self.code = code
        self.values = values


@dataclass(frozen=True)
class Voice:
    """One voice of text to speech."""

    name: str
    """Unique; the value of the option `voice`."""
    title: str
    """For people."""
    language: str
    """ISO 639-1."""
    locale: str
    """BCP 47."""
    gender: Literal["female", "male"]
    engine: Engine
    model: str
    """Name inside the engine."""
    natural: bool = True
    """Neural; otherwise a small fallback."""
    licence: str = "Apache-2.0"
    max_characters: int = MAX_CHARACTERS
    pace: float = 1.0
    """Speed of the engine at which the voice is clear; the option `speed` is relative to it."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return 16_000 if self.engine == "pico" else 24_000

    @property
    def megabytes(self) -> float:
        """Installed size of what its engine needs; voices of one engine share most of it."""
        return {"hibari": 16.0, "kokoro": 93.0, "pico": 8.0}[self.engine]


VOICES = (
    Voice("heart", "Heart", "en", "en-US", "female", "hibari", "heart"),
    Voice("michael", "Michael", "en", "en-US", "male", "kokoro", "am_michael"),
    Voice("emma", "Emma", "en", "en-GB", "female", "kokoro", "bf_emma"),
    Voice("dora", "Dora", "es", "es-ES", "female", "kokoro", "ef_dora"),
    Voice("alex", "Alex", "es", "es-ES", "male", "kokoro", "em_alex"),
    Voice("siwis", "Siwis", "fr", "fr-FR", "female", "kokoro", "ff_siwis"),
    Voice("bia", "Bia", "pt", "pt-BR", "female", "kokoro", "pf_dora"),
    Voice("xiaoxiao", "晓晓", "zh", "zh-CN", "female", "kokoro", "zf_xiaoxiao"),
    Voice("yunxi", "云希", "zh", "zh-CN", "male", "kokoro", "zm_yunxi"),
    Voice("pico-en", "Pico (US)", "en", "en-US", "female", "pico", "en-US", natural=False),
    Voice("pico-es", "Pico", "es", "es-ES", "female", "pico", "es-ES", natural=False),
    Voice("pico-fr", "Pico", "fr", "fr-FR", "female", "pico", "fr-FR", natural=False),
    Voice("pico-de", "Pico", "de", "de-DE", "female", "pico", "de-DE", natural=False, pace=0.9),
)
"""The first voice of a language is its default."""

LANGUAGES = tuple(dict.fromkeys(voice.language for voice in VOICES))
"""Languages with a voice."""

_NO_VOICE = {
    "ar": "No voice speaks Arabic yet: give a recording. "
    "لا يوجد صوت ينطق العربية بعد: أرفق تسجيلاً صوتياً.",
    "he": "No voice speaks Hebrew yet: give a recording. אין עדיין קול שדובר עברית: צרפו הקלטה.",
}


def voices(language: str | None = None) -> tuple[Voice, ...]:
    """The voices of a language, the default first; without one, all."""
    code = _primary(language)
    return tuple(voice for voice in VOICES if code in (None, voice.language))


def find_voice(name: str | None, language: str | None) -> Voice:
    """The voice of that name, or the default of the language. Raises MediaError."""
    if not name:
        code = _primary(language) or "en"
        if found := voices(code):
            return found[0]
        raise SpeechError(
            "no_voice",
            _NO_VOICE.get(
                code,
                f"No voice speaks “{code[:20]}”: give a recording, or a language of "
                f"{', '.join(LANGUAGES)}.",
            ),
            language=code[:20],
        )
    for voice in VOICES:
        if voice.name == name:
            if _primary(language) in (None, voice.language):
                return voice
            raise MediaError(
                f"The voice “{name}” speaks {voice.language}, not “{(language or '')[:20]}”: leave "
                "one of the two out."
            )
    raise MediaError(
        f"There is no voice “{name[:40]}”: choose one of {', '.join(v.name for v in VOICES)}."
    )


def _primary(language: str | None) -> str | None:
    """`pt` of `pt-BR` or `pt_BR`."""
    return (language or "").replace("_", "-").partition("-")[0].strip().lower() or None

"""The local models and their limits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolbo_demo.contract import Model

MAX_PROMPT_CHARACTERS = 2000
MIN_SECONDS = 0.1
MAX_SECONDS = 600.0
PROVIDER = "kolbo-local"
ALIASES = {"lipsync": {"lipsync-image", "lipsync-video"}}

_AUDIO = [
    *("mp3", "wav", "m4a", "aac", "ogg", "opus", "flac", "aiff", "caf", "amr", "wma", "wv"),
    *("au", "3gp", "webm", "mp4", "mov", "mkv"),
]
"""The common ones; `media.demux` has all."""


@dataclass(frozen=True)
class LocalModel:
    """A model as a render needs it, without pydantic. Durations are in seconds."""

    name: str
    title: str
    kind: str
    """Kind of its sources: `image` or `video`."""
    summary: str
    min_audio_duration: float | None = MIN_SECONDS
    max_audio_duration: float | None = MAX_SECONDS
    min_video_duration: float | None = None
    max_video_duration: float | None = None

    @property
    def identifier(self) -> str:
        """The name on the wire."""
        return f"{PROVIDER}/{self.name}"


_MODELS = [
    LocalModel(
        "still",
        "Local still",
        "image",
        "Makes a portrait speak on this machine: lips by phoneme, blinks, head motion. "
        "Free. English sounds fit best. A prompt may tell lips (subtle to exaggerated, "
        "whispering, singing), head (still to lively), no blinking, eye contact, smiling or "
        "neutral.",
    ),
    LocalModel(
        "clip",
        "Local clip",
        "video",
        "Gives a clip new lips on this machine and leaves the rest of each frame as it is. "
        "The result is as long as the audio: a shorter clip plays back and forth, a longer one "
        "is cut. Free. English sounds fit best. A prompt may tell lips (subtle to exaggerated, "
        "whispering, singing) and smiling or neutral.",
        min_video_duration=MIN_SECONDS,
        max_video_duration=MAX_SECONDS,
    ),
]


def list_models(type_name: str | None = None, provider: str | None = None) -> "list[Model]":
    """The models of a type (`lipsync` means both kinds) and provider; None means any."""
    types = ALIASES.get(type_name, {type_name}) if type_name else None
    return [
        _wire_model(model)
        for model in _MODELS
        if (types is None or f"lipsync-{model.kind}" in types)
        and (not provider or provider == PROVIDER)
    ]


def _wire_model(model: LocalModel) -> "Model":
    # Not at the top: a render does not need pydantic, which loads slowly.
    from kolbo_demo.contract import MAX_FILE_BYTES, Model

    return Model.model_validate(
        {
            "identifier": model.identifier,
            "name": model.title,
            "provider": PROVIDER,
            "types": [f"lipsync-{model.kind}"],
            "credit": 0,
            "summary": model.summary,
            "recommended": True,
            "new_model": False,
            "min_audio_duration": model.min_audio_duration,
            "max_audio_duration": model.max_audio_duration,
            "audio_max_follows_video_duration": False,
            "supported_audio_formats": _AUDIO,
            "min_video_duration": model.min_video_duration,
            "max_video_duration": model.max_video_duration,
            "max_file_size": MAX_FILE_BYTES,
            "requires_prompt": False,
            "max_prompt_length": MAX_PROMPT_CHARACTERS,
        }
    )


def find(identifier: str) -> LocalModel | None:
    return next((model for model in _MODELS if model.identifier == identifier), None)


def smart_select(kind: str) -> LocalModel:
    """The model for a source of a kind if none is chosen: the first listed of that kind."""
    return next(model for model in _MODELS if model.kind == kind)

"""The local models and their limits."""

from kolbo_demo.contract import MAX_FILE_BYTES, Model

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


def _model(name: str, title: str, kind: str, summary: str, **more: object) -> Model:
    return Model.model_validate(
        {
            "identifier": f"{PROVIDER}/{name}",
            "name": title,
            "provider": PROVIDER,
            "types": [f"lipsync-{kind}"],
            "credit": 0,
            "summary": summary,
            "recommended": True,
            "new_model": False,
            "min_audio_duration": MIN_SECONDS,
            "max_audio_duration": MAX_SECONDS,
            "audio_max_follows_video_duration": False,
            "supported_audio_formats": _AUDIO,
            "min_video_duration": None,
            "max_video_duration": None,
            "max_file_size": MAX_FILE_BYTES,
            "requires_prompt": False,
            "max_prompt_length": MAX_PROMPT_CHARACTERS,
        }
        | more
    )


_MODELS = [
    _model(
        "still",
        "Local still",
        "image",
        "Makes a portrait speak on this machine: lips by phoneme, blinks, slight head motion. "
        "Free. English sounds fit best. A prompt may tell lips (subtle to exaggerated, "
        "whispering, singing), head (still to lively), no blinking, smiling or neutral.",
    ),
    _model(
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


def list_models(type_name: str | None = None, provider: str | None = None) -> list[Model]:
    """The models of a type (`lipsync` means both kinds) and provider; None means any."""
    types = ALIASES.get(type_name, {type_name}) if type_name else None
    return [
        model
        for model in _MODELS
        if (types is None or types & set(model.types))
        and (not provider or provider == model.provider)
    ]


def find(identifier: str) -> Model | None:
    """The model with an identifier."""
    return next((model for model in _MODELS if model.identifier == identifier), None)


def accepts(model: Model, kind: str | None) -> bool:
    """Whether the model accepts a source of a kind: `image` or `video`."""
    return f"lipsync-{kind}" in model.types


def smart_select(kind: str) -> Model:
    """The model for a source of a kind if none is chosen: the first listed that accepts it."""
    return next(model for model in _MODELS if accepts(model, kind))

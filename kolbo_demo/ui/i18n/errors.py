"""Errors in the visitor's language."""

from kolbo_demo.engine.voices import SpeechError, SpeechUnavailableError
from kolbo_demo.ui.i18n.texts import languages, say


def describe(error: Exception) -> str:
    """An error's message; if words cannot be spoken, in the visitor's language."""
    if isinstance(error, SpeechUnavailableError):
        return say("speech.unavailable", library=error.library)
    if not isinstance(error, SpeechError):
        return str(error)
    if error.code == "no_voice":
        code = str(error.values["language"])
        name = languages().get(code, {}).get("name", code)
        return say("speech.no_voice", language=name)
    return say(f"speech.{error.code}", **error.values)

"""Errors of commands, as a sentence and an exit code."""

import traceback
from pathlib import Path


class CommandError(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def describe_error(error: Exception) -> tuple[str, int]:
    """Message and exit code of an error that no command handled."""
    from pydantic import ValidationError

    from kolbo_demo.client import KolboError
    from kolbo_demo.credentials import CredentialsError
    from kolbo_demo.settings import Settings
    from kolbo_demo.settings import describe_error as describe_settings_error

    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        return describe_settings_error(error), 2
    if isinstance(error, CredentialsError):
        return str(error), 2
    if isinstance(error, KolboError):
        return str(error), 2 if _is_permanent(error) else 1
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return (
        f"Something went wrong that this program did not expect ({type(error).__name__} in "
        f"{place}). Please report it.",
        1,
    )


def _is_permanent(error: Exception) -> bool:
    """Whether the same command fails again."""
    from kolbo_demo.client import ApiError, GenerationFailedError, InputError

    if isinstance(error, ApiError):
        return error.status is None or (error.status in range(400, 500) and error.status != 429)
    if isinstance(error, GenerationFailedError):  # such as a picture without a face
        failure = error.status and error.status.failure
        return bool(failure) and failure.category in {"input", "link"} and not failure.retryable
    return isinstance(error, InputError)

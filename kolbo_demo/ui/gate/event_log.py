"""Errors of events go to the log. Gradio prints their tracebacks past it, with what was sent."""

import logging
import sys
import traceback
from typing import Any

from gradio import queueing, routes
from gradio.exceptions import ComponentProcessingError, Error, InvalidPathError
from pydantic import ValidationError

_log = logging.getLogger(__name__)
_CALLERS = (ComponentProcessingError, Error, InvalidPathError, ValidationError)
"""Raised for values that no component of the page sends."""


class _Traceback:
    """Python's module, but for what it would print."""

    def print_exc(self, *_: object, **__: object) -> None:
        level = logging.WARNING if isinstance(sys.exception(), _CALLERS) else logging.ERROR
        _log.log(level, "An event of the page failed", exc_info=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)


def log_events() -> None:
    """From now on Gradio's queue and routes log what they would print."""
    for module in (queueing, routes):
        vars(module)["traceback"] = _Traceback()

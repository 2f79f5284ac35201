"""The local engine: renders a source and a voice to a lip-synced video on the CPU.

EngineError
├── Cancelled
└── EngineCrashError
"""

from functools import cache


class EngineError(RuntimeError):
    """The engine cannot render here; the message says why."""


class Cancelled(EngineError):  # noqa: N818 - a state by its name on the wire, not a fault
    """The caller stopped the render."""


class EngineCrashError(EngineError):
    """A render process ended before it returned a result."""

    def __init__(self, cause: str) -> None:
        """`cause` continues a sentence that begins "The engine"."""
        super().__init__(f"The engine {cause}. Try again.")
        self.cause = cause


@cache
def unavailable_reason() -> str | None:
    """One sentence that says why the engine cannot run on this machine; None if it can."""
    try:
        import ai_edge_litert.interpreter
        import av
        import cv2
        import hama
    except (ImportError, OSError) as error:
        return (
            "The local engine cannot run on this machine because a native library is missing "
            f"({getattr(error, 'name', None) or error}); Kolbo's cloud still works."
        )
    del ai_edge_litert, av, cv2, hama
    return None

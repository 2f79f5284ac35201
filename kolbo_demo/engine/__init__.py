"""The local engine: a source and a voice to a video whose lips say it, on the CPU."""

from functools import cache


class EngineError(RuntimeError):
    """The engine cannot do its work here; the message says why."""


class Cancelled(EngineError):  # noqa: N818 - a state by its name on the wire, not a fault
    """The caller asked the engine to stop."""


class EngineCrashError(EngineError):
    """A process that rendered ended in the middle of it."""

    def __init__(self, how: str) -> None:
        """`how` it ended, as a sentence about the engine goes on."""
        super().__init__(f"The engine {how}. Try again.")
        self.how = how


@cache
def problem() -> str | None:
    """One sentence that names what is missing for the engine to run here; None if it can."""
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

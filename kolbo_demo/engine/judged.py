"""The judge in a process of its own: a video that crashes a decoder takes nothing else down."""

import os
import queue
import time
from pathlib import Path
from typing import Any

from kolbo_demo.child import Child, Message, parent
from kolbo_demo.confine import confine
from kolbo_demo.engine import EngineError

LONGEST = 900.0
"""Seconds that a video is judged for; ten minutes of video take about three."""
MEMORY = 4 * 1024**3
"""Bytes of address space for it."""
_NICENESS = 10


def judged(video: Path, point: tuple[float, float] | None = None) -> dict[str, Any]:
    """The summary and the `curves` of `judge.Report`, as JSON has them. Blocks.

    Raises EngineError with a sentence for people where the video cannot be judged.
    """
    heard: queue.SimpleQueue[tuple[Child, Message | None]] = queue.SimpleQueue()
    child = Child(__name__, heard)
    until = time.monotonic() + LONGEST
    try:
        child.ask(video=str(video.absolute()), point=point)
        try:
            _, message = heard.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise EngineError("The video took too long to measure; try a shorter one.") from None
        if message is None:
            raise EngineError(f"The measuring {child.last_words()}. Try again.")
        if "failure" in message:
            raise EngineError(message["failure"])
        return message["report"]
    finally:
        child.kill()


# From here on: the child.


def main() -> None:
    """Judge what is asked for, and tell the report or one sentence."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    confine(LONGEST, MEMORY)
    from kolbo_demo.engine.judge import judge  # here: the parent needs no decoder and no model
    from kolbo_demo.media import MediaError

    with parent() as (requests, tell):
        asked = next(requests)
        point = asked["point"]
        try:
            report = judge(Path(asked["video"]), (point[0], point[1]) if point else None)
        except (MediaError, EngineError) as error:
            tell(failure=str(error))
        except MemoryError:
            tell(failure="The video takes too much memory to be measured; scale it down.")
        else:
            tell(report=report.summary() | {"curves": report.curves()})


if __name__ == "__main__":
    main()

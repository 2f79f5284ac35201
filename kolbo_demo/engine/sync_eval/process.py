"""The judge in a process of its own: a video that crashes a decoder takes nothing else down."""

import os
from pathlib import Path
from typing import Any

from kolbo_demo.engine import EngineError
from kolbo_demo.process.child import ChildFailedError, call_module, parent_connection
from kolbo_demo.process.confinement import MAX_STDERR_BYTES, AllowedFiles, limit_resources

LONGEST = 900.0
"""Seconds that a video is judged for; ten minutes of video take about three."""
MEMORY = 4 * 1024**3
"""Bytes of address space for it."""
_NICENESS = 10


def judged(video: Path, point: tuple[float, float] | None = None) -> dict[str, Any]:
    """The summary and the `curves` of `judge.Report`, as JSON has them. Blocks.

    Raises EngineError with a sentence for people where the video cannot be judged.
    """
    path = str(video.absolute())
    try:
        files = AllowedFiles(read=(path,))
        answer = call_module(__name__, LONGEST, files, video=path, point=point)
    except ChildFailedError as error:
        message = f"The measuring {error}. Try again, or with a shorter video."
        raise EngineError(message) from error
    if "failure" in answer:
        raise EngineError(answer["failure"])
    return answer["report"]


# From here on: the child.


def main() -> None:
    """Judge what is asked for, and tell the report or one sentence."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    limit_resources(LONGEST, MEMORY, MAX_STDERR_BYTES)
    from kolbo_demo.engine.sync_eval.judge import (
        judge,  # here: the parent needs no decoder and no model
    )
    from kolbo_demo.media.probe import MediaError

    with parent_connection() as (requests, tell):
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

"""Runs the judge in a confined child process, which contains crashes of decoders."""

import os
from pathlib import Path
from typing import Any

from kolbo_demo.engine import EngineError
from kolbo_demo.process.child import ChildFailedError, call_module, parent_connection
from kolbo_demo.process.confinement import MAX_STDERR_BYTES, AllowedFiles, limit_resources

TIMEOUT_SECONDS = 900.0
"""Ten minutes of video take about three minutes."""
MEMORY_BYTES = 4 * 1024**3
"""Limit of the child's address space."""
_NICENESS = 10


def judge_in_process(video: Path, point: tuple[float, float] | None = None) -> dict[str, Any]:
    """`SyncReport.summary()` and its `curves`. Blocks; EngineError has a message for users."""
    path = str(video.absolute())
    try:
        files = AllowedFiles(read=(path,))
        response = call_module(__name__, TIMEOUT_SECONDS, files, video=path, point=point)
    except ChildFailedError as error:
        message = f"The evaluation {error}. Try again, or with a shorter video."
        raise EngineError(message) from error
    if "failure" in response:
        raise EngineError(response["failure"])
    return response["report"]


# Child process


def main() -> None:
    """Answer one request with a report or a failure message."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    limit_resources(TIMEOUT_SECONDS, MEMORY_BYTES, MAX_STDERR_BYTES)
    # Imported here because the parent needs no decoder and no model.
    from kolbo_demo.engine.sync_eval.judge import judge
    from kolbo_demo.media.probe import MediaError

    with parent_connection() as (requests, tell):
        request = next(requests)
        point = request["point"]
        try:
            report = judge(Path(request["video"]), (point[0], point[1]) if point else None)
        except (MediaError, EngineError) as error:
            tell(failure=str(error))
        except MemoryError:
            tell(failure="The video takes too much memory to be measured; scale it down.")
        else:
            tell(report=report.summary() | {"curves": report.curves()})


if __name__ == "__main__":
    main()

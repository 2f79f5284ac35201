"""A finished video, fetched to where it stays, and marked on the way where its API did not."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from kolbo_demo.client import Generation
from kolbo_demo.contract import Status
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.preflight import Analyst


def save(
    generation: Generation,
    status: Status,
    output: Path,
    analyst: Analyst,
    wanted: Callable[[], bool],
    *,
    mark: bool,
    stamp: bool = False,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_mark: Callable[[], None] = lambda: None,
) -> Path:
    """Saves a completed generation's video under `output`, whole or not at all, and gives the path.

    `mark` has the picture say that it is AI-generated: where the API did not see to it, `analyst`
    does, so that no plain video is left. `stamp` has the metadata say so, as far as they can.
    `on_progress` is that of `Generation.download`, `on_mark` is called before the marking.

    Raises what `download` raises, MediaError where the video cannot be marked, and StoppedError
    once `wanted` says no.
    """
    seen = mark and not (status.result and status.result.visible_mark)
    if not (seen or stamp):
        return generation.download(output, on_progress)
    plain = generation.download(output.with_name(f".{uuid4().hex}.plain"), on_progress)
    try:
        if seen:
            on_mark()
        analyst.make("mark", plain, output, wanted, seen=seen)
    except MediaError:
        if seen:
            raise
        plain.replace(output)  # it plays all the same
    finally:
        plain.unlink(missing_ok=True)
    return output

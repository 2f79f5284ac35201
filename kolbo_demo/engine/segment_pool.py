"""Worker processes that render the segments of one render in parallel, without threads if there is
one for each core."""

import logging
import queue
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kolbo_demo.engine import EngineCrashError, EngineError
from kolbo_demo.engine.render_plan import (
    OnProgress,
    RenderPlan,
    ShouldStop,
    check_not_stopped,
)
from kolbo_demo.engine.segment import render_segment
from kolbo_demo.engine.unsynced import UnsyncedSpan
from kolbo_demo.media.probe import MediaError
from kolbo_demo.process.child import SINGLE_THREAD_ENV, Child, MessageQueue, parent_connection
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.process.free_memory import release_memory

_log = logging.getLogger(__name__)

STOP_POLL_SECONDS = 0.1
"""Polling interval for `should_stop`."""


class SegmentPool:
    """Worker processes. Use as a context manager: none outlives it."""

    def __init__(self, count: int, threaded: bool) -> None:
        """`threaded` overlaps the stages of each worker, if there are spare cores."""
        self._messages: MessageQueue = queue.SimpleQueue()
        self._children: list[Child] = []
        self._count, self._threaded = count, threaded

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._children.append(Child.start(__name__, self._messages, SINGLE_THREAD_ENV))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for child in self._children:
            if output := child.kill():
                _log.info("worker %s wrote: %s", child.pid, output)

    def render(
        self,
        plan_path: Path,
        plan: RenderPlan,
        source: Path,
        on_progress: OnProgress,
        should_stop: ShouldStop | None = None,
        preview: Path | None = None,
    ) -> Iterator[tuple[Path, list[UnsyncedSpan]]]:
        """Yield each segment of a plan and its unsynced spans, in order, as soon as possible.

        The first worker writes `preview`, as in `render_segment`: its segments are in order.
        Raises what `render_segment` raises, or EngineCrashError.
        """
        pending = list(range(len(plan.segments)))
        finished: dict[int, tuple[Path, list[UnsyncedSpan]]] = {}
        done, next_index, first = 0, 0, self._children[0]

        def assign(child: Child) -> None:
            if pending:
                index, path = pending.pop(0), plan_path.absolute()
                previewed = preview.absolute() if preview and child is first else None
                writable = (path.parent, *([previewed.parent] if previewed else []))
                child.send(
                    AllowedFiles((str(source.absolute()),), tuple(map(str, writable))),
                    plan=str(path),
                    source=str(source.absolute()),
                    index=index,
                    output=str(path.with_name(f"{index}.mp4")),
                    threaded=self._threaded,
                    preview=str(previewed) if previewed else None,
                )

        for child in self._children:
            assign(child)
        while next_index < len(plan.segments):
            check_not_stopped(should_stop)
            try:
                child, message = self._messages.get(timeout=STOP_POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                raise EngineCrashError(str(child.exit_error()))
            if "frames" in message:
                done += message["frames"]
                on_progress(done, plan.frames)
            elif "failure" in message:
                raise _failure(message["failure"])
            else:
                index = message["index"]
                spans = [UnsyncedSpan(*span) for span in message["unsynced"]]
                finished[index] = (Path(message["output"]), spans)
                assign(child)
            while next_index in finished:
                yield finished.pop(next_index)
                next_index += 1


def _failure(report: dict[str, Any]) -> Exception:
    kind, message = report["kind"], report["message"]
    if kind == "OSError":
        return OSError(report["errno"], message)
    return {"MediaError": MediaError, "MemoryError": MemoryError}.get(kind, EngineError)(message)


# The worker process.


def main() -> None:
    """Render the requested segments until the parent closes the input."""
    with parent_connection() as (requests, send):
        for request in requests:
            index, output, preview = request["index"], request["output"], request["preview"]
            try:
                unsynced = render_segment(
                    RenderPlan.load(Path(request["plan"])),
                    Path(request["source"]),
                    index,
                    Path(output),
                    on_progress=lambda _done, _total: send(frames=1),
                    threaded=request["threaded"],
                    preview=Path(preview) if preview else None,
                )
            except OSError as error:
                message = error.strerror or str(error)
                send(failure={"kind": "OSError", "errno": error.errno, "message": message})
            except (MediaError, EngineError, MemoryError) as error:
                send(failure={"kind": type(error).__name__, "message": str(error)})
            else:
                send(index=index, output=output, unsynced=unsynced)
            release_memory()


if __name__ == "__main__":
    main()

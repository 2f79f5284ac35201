"""Segments of one render in processes side by side.

Each process renders one segment after another. As many of them as cores do without threads: then
nothing waits for anything else.
"""

import logging
import queue
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kolbo_demo.engine import Cancelled, EngineCrashError, EngineError
from kolbo_demo.engine.render_plan import (
    CANCELLED,
    IsCancelled,
    OnProgress,
    Plan,
    Unsynced,
    render_segment,
)
from kolbo_demo.media.probe import MediaError
from kolbo_demo.process.child import SINGLE_THREAD_ENV, Child, MessageQueue, parent_connection
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.process.free_memory import release_memory

_log = logging.getLogger(__name__)

CHECK_SECONDS = 0.1
"""How often a render looks whether it is still wanted."""


class Workers:
    """Processes that render. Use as a context manager: none outlives it."""

    def __init__(self, count: int, threaded: bool) -> None:
        """`threaded` lets each overlap its stages, where there are cores to spare."""
        self._heard: MessageQueue = queue.SimpleQueue()
        self._children: list[Child] = []
        self._count, self._threaded = count, threaded

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._children.append(Child.start(__name__, self._heard, SINGLE_THREAD_ENV))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        for child in self._children:
            if said := child.kill():
                _log.info("worker %s said: %s", child.pid, said)

    def rendered(
        self,
        plan: Path,
        made: Plan,
        source: Path,
        on_progress: OnProgress,
        cancelled: IsCancelled | None = None,
    ) -> Iterator[tuple[Path, list[Unsynced]]]:
        """Every segment of a plan, in order, as soon as it and those before it are there.

        `on_progress` gets frames done and frames in all. Raises what a segment raises, Cancelled,
        or EngineCrashError.
        """
        waiting = list(range(len(made.segments)))
        finished: dict[int, tuple[Path, list[Unsynced]]] = {}
        done, turn = 0, 0

        def give(child: Child) -> None:
            if waiting:
                index, path = waiting.pop(0), plan.absolute()
                child.send(
                    AllowedFiles(read=(str(source.absolute()),), write=(str(path.parent),)),
                    plan=str(path),
                    source=str(source.absolute()),
                    index=index,
                    output=str(path.with_name(f"{index}.mp4")),
                    threaded=self._threaded,
                )

        for child in self._children:
            give(child)
        while turn < len(made.segments):
            if cancelled is not None and cancelled():
                raise Cancelled(CANCELLED)
            try:
                child, message = self._heard.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                raise EngineCrashError(str(child.exit_error()))
            if "frames" in message:
                done += message["frames"]
                on_progress(done, made.frames)
            elif "failure" in message:
                raise _failure(message["failure"])
            else:
                index = message["index"]
                spans = [Unsynced(*span) for span in message["unsynced"]]
                finished[index] = (Path(message["output"]), spans)
                give(child)
            while turn in finished:
                yield finished.pop(turn)
                turn += 1


def _failure(told: dict[str, Any]) -> Exception:
    kind, message = told["kind"], told["message"]
    if kind == "OSError":
        return OSError(told["errno"], message)
    return {"MediaError": MediaError, "MemoryError": MemoryError}.get(kind, EngineError)(message)


# From here on: the worker.


def main() -> None:
    """Render the segments that the parent asks for, until it closes."""
    with parent_connection() as (requests, tell):
        for request in requests:
            index, output = request["index"], request["output"]
            try:
                unsynced = render_segment(
                    Path(request["plan"]),
                    Path(request["source"]),
                    index,
                    Path(output),
                    on_progress=lambda _done, _total: tell(frames=1),
                    threaded=request["threaded"],
                )
            except OSError as error:
                message = error.strerror or str(error)
                tell(failure={"kind": "OSError", "errno": error.errno, "message": message})
            except (MediaError, EngineError, MemoryError) as error:
                tell(failure={"kind": type(error).__name__, "message": str(error)})
            else:
                tell(index=index, output=output, unsynced=unsynced)
            release_memory()


if __name__ == "__main__":
    main()

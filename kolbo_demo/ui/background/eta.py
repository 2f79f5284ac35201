"""How long a generation will take: on the local engine by what it took for the last ones."""

import math
import statistics
from collections.abc import Sequence

from kolbo_demo.contract import Model
from kolbo_demo.ui.access.backend import LOCAL
from kolbo_demo.ui.storage.generation_store import GenerationStore

LIKE = 3.0
"""A result so many times longer or shorter tells nothing: starting takes its own time."""
NEAREST = 3
"""Generations of the most similar length that are asked."""


def estimate(
    store: GenerationStore, backend: str, candidates: Sequence[Model], seconds: float
) -> float | None:
    """Seconds from the click to a result of `seconds` (0: not known) where it is clear which model
    will do the work; of a cloud's model what its document says. None while unknown."""
    if len(candidates) != 1:
        return None
    if backend != LOCAL:
        return candidates[0].estimated_duration_seconds
    return expected(store, candidates[0].identifier, seconds) if seconds else None


def expected(store: GenerationStore, model: str, seconds: float) -> float | None:
    """Seconds from the click to a result of `seconds` by a local model; None while unknown.

    The median pace of the most similar of the last generations, waiting for their turn included.
    """
    measured: list[tuple[float, float]] = []
    for record in store.latest():
        result = record.status.result if record.status else None
        if record.backend != LOCAL or record.end != "done" or result is None:
            continue
        if result.model == model and result.duration and record.seconds:
            apart = abs(math.log(result.duration / seconds))
            if apart <= math.log(LIKE):
                measured.append((apart, record.seconds / result.duration))
    nearest = sorted(measured)[:NEAREST]
    return seconds * statistics.median(pace for _, pace in nearest) if nearest else None

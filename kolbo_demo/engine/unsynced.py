"""Spans of a result whose lips are unchanged."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kolbo_demo.media.sniff import MediaError


@dataclass(frozen=True)
class UnsyncedSeconds:
    """A span in seconds of the result."""

    start: float
    end: float
    reason: str


class UnsyncedSpan(NamedTuple):
    """Frames `first` to `end` - 1 of the result, whose lips are unchanged, and the reason."""

    first: int
    end: int
    reason: str

    def in_seconds(self, fps: float) -> UnsyncedSeconds:
        start, end = (round(frame / fps, 3) for frame in (self.first, self.end))
        return UnsyncedSeconds(start, end, self.reason)


def merge_spans(spans: Iterable[UnsyncedSpan]) -> list[UnsyncedSpan]:
    """Spans in order; adjacent ones with the same reason become one."""
    merged: list[UnsyncedSpan] = []
    for span in sorted(spans):
        if merged and merged[-1].end == span.first and merged[-1].reason == span.reason:
            merged[-1] = merged[-1]._replace(end=span.end)
        else:
            merged.append(span)
    return merged


def check_synced(unsynced: list[UnsyncedSpan], frames: int) -> None:
    """Raise MediaError if no frame of a result is synced."""
    if sum(span.end - span.first for span in unsynced) == frames:
        longest = max(unsynced, key=lambda span: span.end - span.first)
        raise MediaError(
            f"No part of the clip could be synced: {longest.reason}. Use a clip in which the "
            "speaker's mouth can be seen, or point at another face."
        )

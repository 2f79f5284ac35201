"""The plan of a render: a file with all that segments need, besides the source.

`prepare` writes the plan, `segment` renders one segment of it, and `video_writer.join_segments`
joins them with the voice. Segments can be rendered in any order, by any process on any machine:
their lengths are fixed, and the plan holds what a segment needs of those before it (where the face
was).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
from av.video.reformatter import Colorspace

from kolbo_demo.engine import Cancelled, EngineError, npz_codec, unavailable_reason
from kolbo_demo.engine.exemplar_plan import MixPlan
from kolbo_demo.engine.face_reid import Person
from kolbo_demo.engine.head_pose import Array
from kolbo_demo.engine.idle_motion import IdleMotion
from kolbo_demo.engine.mouth_curves import MouthCurves
from kolbo_demo.engine.speaker import Speaker
from kolbo_demo.json_codec import stored_as

SEGMENT_SECONDS = 10
CANCELLED = "The generation was cancelled."

OnProgress = Callable[[int, int], None]
"""Called with the frames done and the total."""
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class RenderPlan:
    """All that a segment needs, besides the source."""

    kind: Literal["image", "video"]
    width: int
    height: int
    """Pixels of the result."""
    fps: Fraction
    frames: int
    """Of the result."""
    duration: float
    """Seconds of the voice."""
    inspected_frames: int = field(metadata=stored_as("looks"))
    """Frames of the clip that `prepare` read."""
    speaker: Speaker
    curves: MouthCurves
    idle_motion: IdleMotion | None = field(metadata=stored_as("life"))
    """Of a still."""
    edges: list[int]
    """The first frame of each segment, then the number of frames."""
    mixes: MixPlan | None = field(metadata=stored_as("casts"))
    """Of a clip: the exemplars of each frame."""
    faces: Array
    """Landmarks (n, 478, 3), pixels: of the still, or of inspected frames that show the speaker."""
    face_frames: list[int] = field(metadata=stored_as("places"))
    """Frame numbers of `faces` in the clip."""
    person: Person | None
    """Of a clip: the person to track."""
    matrix: int = int(Colorspace.ITU709)
    """YUV matrix of the result."""
    notes: tuple[str, ...] = ()
    """Changes to the source's colours, and the track or channel used as the voice."""
    watermark: bool = field(default=False, metadata=stored_as("mark"))

    @property
    def segments(self) -> list[range]:
        """Frames of each segment."""
        return [range(first, end) for first, end in pairwise(self.edges)]

    @classmethod
    def load(cls, path: Path) -> "RenderPlan":
        return npz_codec.load(path, cls)


def segment_count(duration: float | Fraction) -> int:
    """Number of equally long segments, of about SEGMENT_SECONDS, in `duration` seconds."""
    return max(round(duration / SEGMENT_SECONDS), 1)


def segment_edges(frames: int, fps: Fraction) -> list[int]:
    """The first frame of each segment, then the number of frames."""
    count = segment_count(frames / fps)
    return [frames * i // count for i in range(count + 1)]


def check_engine() -> None:
    """Raise EngineError if the engine cannot run; limit OpenCV to one thread."""
    if (reason := unavailable_reason()) is not None:
        raise EngineError(reason)
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain


def check_not_stopped(should_stop: ShouldStop | None) -> None:
    """Raise Cancelled if the caller wants to stop."""
    if should_stop is not None and should_stop():
        raise Cancelled(CANCELLED)

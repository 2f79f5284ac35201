"""The whole job: a source and a voice to a video whose lips say it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from kolbo_demo.engine import Cancelled, EngineError, problem
from kolbo_demo.engine.animate import still, talking_clip
from kolbo_demo.engine.directions import AS_PEOPLE_DO, Directions
from kolbo_demo.engine.life import Life
from kolbo_demo.engine.mouth import mouth_curves
from kolbo_demo.engine.pipeline import ahead
from kolbo_demo.engine.recogniser import RATE
from kolbo_demo.engine.speech import hear
from kolbo_demo.engine.video import Clip, Writer, frames_for, load_voice
from kolbo_demo.engine.warp import Pixels
from kolbo_demo.media import MediaError, inspect_source, upright_image

STILL_FPS = 25
STILL_PIXELS = 1920 * 1088
"""A larger still is scaled down to about so many pixels."""
OnProgress = Callable[[int, int], None]
IsCancelled = Callable[[], bool]


@dataclass(frozen=True)
class Rendered:
    """What came out: sizes in pixels, duration in seconds."""

    frames: int
    fps: float
    duration: float
    width: int
    height: int
    skipped: int
    """Frames without a usable face, passed through unchanged."""


def render(
    source: Path,
    audio: Path,
    output: Path,
    face: tuple[float, float] | None = None,
    directions: Directions = AS_PEOPLE_DO,
    on_progress: OnProgress | None = None,
    cancelled: IsCancelled | None = None,
) -> Rendered:
    """Make `source` (a picture or a clip) say `audio` and write it to `output` as MP4.

    `face` is a point, x and y in 0-1 of the upright picture: the face nearest to it speaks, else
    the largest. `directions` tell how to play. `on_progress` gets frames done and frames in all.
    `cancelled` is asked at every frame. The output is as long as the voice. Raises MediaError where
    the input cannot work, Cancelled, or EngineError where this machine cannot render; nothing is
    left behind then.
    """
    if (missing := problem()) is not None:
        raise EngineError(missing)
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain
    job = _Job(on_progress or (lambda _done, _total: None), cancelled or (lambda: False))
    kind = inspect_source(source).kind
    job.check()
    wave = load_voice(audio, RATE)
    duration = len(wave) / RATE
    if duration < 0.04:
        raise MediaError("The audio is too short to show: use at least 0.04 seconds.")
    heard = hear(wave)
    job.check()
    if kind == "image":
        frames = frames_for(duration, Fraction(STILL_FPS))
        curves = mouth_curves(heard, STILL_FPS, frames).directed(directions)
        picture = _fitted(upright_image(source))
        height, width = picture.shape[:2]
        life = Life.of(heard.level, STILL_FPS, frames).directed(directions)
        pictures = still(picture, face, curves, life, directions.relax)
        job.total, fps = frames, Fraction(STILL_FPS)
        return job.write(pictures, output, (width, height), fps, audio, duration)
    with Clip(source) as clip:
        frames = frames_for(duration, clip.fps)
        curves = mouth_curves(heard, float(clip.fps), frames).directed(directions)
        job.total = frames + min(frames, clip.frame_count)
        pictures = talking_clip(clip, face, curves, job.step, job.skip, directions.relax)
        return job.write(pictures, output, (clip.width, clip.height), clip.fps, audio, duration)


class _Job:
    """Progress, cancelling, and the frames that had no face."""

    def __init__(self, on_progress: OnProgress, cancelled: IsCancelled) -> None:
        self._on_progress, self._cancelled = on_progress, cancelled
        self.done = self.total = self.skipped = 0

    def check(self) -> None:
        if self._cancelled():
            raise Cancelled("The generation was cancelled.")

    def step(self) -> None:
        self.check()
        self.done += 1
        self._on_progress(self.done, self.total)

    def skip(self) -> None:
        self.skipped += 1

    def write(
        self,
        pictures: Iterator[Pixels],
        output: Path,
        size: tuple[int, int],
        fps: Fraction,
        audio: Path,
        duration: float,
    ) -> Rendered:
        count = 0
        with Writer(output, *size, fps, audio, duration) as writer:
            for picture in ahead(pictures):
                writer.write(picture)
                count += 1
                self.step()
        return Rendered(count, float(fps), duration, *size, self.skipped)


def _fitted(image: Image.Image) -> Pixels:
    """RGB pixels with even sides, at most STILL_PIXELS of them."""
    width, height = image.size
    shrink = min((STILL_PIXELS / (width * height)) ** 0.5, 1.0)
    size = max(round(width * shrink / 2) * 2, 2), max(round(height * shrink / 2) * 2, 2)
    if shrink < 1:
        image = image.resize(size, Image.Resampling.LANCZOS)
    elif size != image.size:
        image = image.crop((0, 0, width // 2 * 2, height // 2 * 2))
    return np.asarray(image)

"""Render time against a floor: encoding for stills; decoding, landmarks and encoding for clips.

Floor and render alternate in the same run, since machines are noisy: read the ratios. `--long` adds
ten minutes of speech against one, and `--strict` fails on a missed target.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from benchmarks.endurance import first_progress, long_against_short
from benchmarks.media import SPEECH, make_clip, make_still
from kolbo_demo.engine import compositor, prepare, segment
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.head_turn import HeadTurn
from kolbo_demo.engine.idle_motion import Eyes
from kolbo_demo.engine.landmarks import FaceLandmarker, track_face
from kolbo_demo.engine.mouth_warp import Layers, MouthWarp
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import SegmentWriter, VideoWriter
from kolbo_demo.media.probe import inspect_audio

CASES = (
    ("still", 512, 512),
    ("still", 1280, 720),
    ("clip", 512, 512),
    ("clip", 1280, 720),
    ("clip", 1920, 1080),
)
ROUNDS = 4
TARGETS = {
    ("still", "512x512"): {"ratio_to_floor": 2.5, "of_real_time": 0.33},
    ("still", "1280x720"): {"of_real_time": 0.67},
    ("clip", "512x512"): {"ratio_to_floor": 1.4, "of_real_time": 0.67},
    ("clip", "1920x1080"): {"ratio_to_floor": 1.4},
}
"""Upper bounds for two cores."""
LONG_TARGETS = {"time_ratio_a_minute": 1.1, "peak_ratio": 1.1, "peak_over_idle_mb": 500.0}
MAX_FIRST_PROGRESS_SECONDS = 1.0

STAGES: dict[str, tuple[object, str]] = {
    "decode": (Clip, "frames_and_planes"),
    "landmarks": (FaceLandmarker, "_fit"),
    "head": (HeadTurn, "pose"),
    "resampling": (compositor, "resample"),
    "background": (HeadTurn, "draw_background"),
    "eyes": (Eyes, "draw"),
    "warp": (MouthWarp, "__call__"),
    "mouth": (Layers, "compose"),
    "planes": (segment, "patch_planes"),
    "encode": (SegmentWriter, "write"),
    "hearing": (prepare, "extract_voice_features"),
}
"""Stages by name: owner and name of the function whose CPU time, callees included, is measured."""


def main(long: bool, strict: bool) -> int:
    """Measure and print a table; returns the exit code."""
    seconds = inspect_audio(SPEECH).duration or 0.0
    print(
        f"{os.cpu_count()} cores, a voice of {seconds:.1f} s, best of {ROUNDS}; in brackets at most"
    )
    missed = [
        _print_row(row, TARGETS.get((row["kind"], row["size"]), {})) for row in _rows(seconds)
    ]
    first = first_progress()
    missed.append(
        _print_row(
            {"first_progress_s": round(first, 2)}, {"first_progress_s": MAX_FIRST_PROGRESS_SECONDS}
        )
    )
    if long:
        missed += [_print_row(row, LONG_TARGETS) for row in long_against_short()]
    return int(strict and any(missed))


def _print_row(row: dict, targets: dict[str, float]) -> bool:
    """Print a row with its targets; returns whether it misses one."""
    cells, missed = [], False
    for name, value in row.items():
        cell = f"{name} {value}"
        if name in targets:
            over = value > targets[name]
            missed |= over
            cell += f" [{targets[name]:g}{', missed' if over else ''}]"
        cells.append(cell)
    print("; ".join(cells), flush=True)
    return missed


def _rows(seconds: float) -> Iterator[dict]:
    """Real time, ratio to the floor and milliseconds a frame by stage, for each kind and size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, width, height in CASES:
            make, floor = (
                (make_still, _encoding_floor) if kind == "still" else (make_clip, _clip_floor)
            )
            source = make(folder, width, height)
            yield _measure_case(
                kind, (width, height), source, SPEECH, folder / "out.mp4", floor, seconds
            )


def _measure_case(
    kind: str,
    size: tuple[int, int],
    source: Path,
    voice: Path,
    out: Path,
    make_floor: Callable[[Path, Path, Path], Callable[[], None]],
    seconds: float,
) -> dict:
    render(source, voice, out)  # warms caches
    floor_output = out.with_name("floor.mp4")
    floor = make_floor(out if kind == "still" else source, voice, floor_output)
    jobs, floors = [], []
    for _ in range(ROUNDS):
        jobs.append(_timed(lambda: render(source, voice, out)))
        floors.append(_timed(floor))
    stages = dict.fromkeys(STAGES, 0.0)
    with ExitStack() as stack:
        for stage, (owner, name) in STAGES.items():
            timed = _accumulate_time(getattr(owner, name), stage, stages)
            stack.enter_context(patch.object(owner, name, timed))
        frames = render(source, voice, out).frames
    job_seconds, floor_seconds = min(jobs), min(floors)
    return {
        "kind": kind,
        "size": f"{size[0]}x{size[1]}",
        "frames": frames,
        "job_seconds": round(job_seconds, 2),
        "of_real_time": round(job_seconds / seconds, 2),
        "floor_seconds": round(floor_seconds, 2),
        "ratio_to_floor": round(job_seconds / floor_seconds, 2),
        **{f"{k}_ms": round(1000 * v / frames, 2) for k, v in stages.items()},
    }


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _accumulate_time(
    function: Callable, stage: str, seconds_by_stage: dict[str, float]
) -> Callable:
    """Wrap a function to add up its thread's CPU time, also while its generator runs."""

    def iterate(items: Iterator) -> Iterator:
        while True:
            start = time.thread_time()
            item = next(items, items)
            seconds_by_stage[stage] += time.thread_time() - start
            if item is items:
                return
            yield item

    def call(*arguments: object, **named: object) -> object:
        start = time.thread_time()
        result = function(*arguments, **named)
        seconds_by_stage[stage] += time.thread_time() - start
        return iterate(result) if isinstance(result, Iterator) else result

    return call


def _encoding_floor(rendered: Path, voice: Path, out: Path) -> Callable[[], None]:
    """Encodes the render's frames; a constant picture would cost nothing."""
    with Clip(rendered) as clip:
        frames = list(clip.frames())
        size = clip.width, clip.height

    def work() -> None:
        with VideoWriter(out, *size, 25, voice, _duration(voice)) as writer:
            for frame in frames:
                writer.write(frame)

    return work


def _clip_floor(source: Path, voice: Path, out: Path) -> Callable[[], None]:
    def work() -> None:
        with Clip(source) as clip:
            writer = VideoWriter(out, clip.width, clip.height, clip.fps, voice, _duration(voice))
            with writer:
                for rgb, _ in track_face(clip.frames(writer.frame_count), FaceLandmarker(), None):
                    writer.write(rgb)

    return work


def _duration(voice: Path) -> float:
    return len(load_voice(voice)) / 16_000

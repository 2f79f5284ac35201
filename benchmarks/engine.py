"""How fast the engine renders, against the least that any engine has to do.

The floor of a still is encoding alone; of a clip decoding, landmarks and encoding. Both are
measured in the same run as the job, since machines are noisy: read the ratios.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from PIL import Image

from kolbo_demo.engine import segments
from kolbo_demo.engine.deform import Layers, MouthWarp
from kolbo_demo.engine.encode import PieceWriter
from kolbo_demo.engine.face import FaceFinder, track
from kolbo_demo.engine.life import Eyelids, Sway
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video import Clip, Writer, load_voice
from kolbo_demo.media import inspect_audio

ASSETS = Path(__file__).parents[1] / "assets"
SIZES = ((512, 512), (1280, 720))
ROUNDS = 3

STAGES: dict[str, tuple[object, str]] = {
    "decode": (Clip, "frames"),
    "landmarks": (FaceFinder, "_landmarks"),
    "head": (Sway, "head_map"),
    "lids": (Eyelids, "draw"),
    "warp": (MouthWarp, "__call__"),
    "mouth": (Layers, "compose"),
    "encode": (PieceWriter, "write"),
    "hearing": (segments, "hear"),
}
"""A stage's name and the function whose time on the processor, all it calls included, it is."""


def measure() -> dict:
    """Milliseconds a frame by stage, real time and ratio to the floor, for each kind and size."""
    voice = ASSETS / "speech.wav"
    seconds = inspect_audio(voice).duration or 0.0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        for width, height in SIZES:
            still = _still(Path(folder), width, height)
            clip = _clip(Path(folder), width, height)
            for kind, source, floor in (
                ("still", still, _encode_only),
                ("clip", clip, _decode_find_encode),
            ):
                rows.append(_row(kind, (width, height), source, voice, out, floor, seconds))
    return {"cores": os.cpu_count(), "voice_seconds": seconds, "rounds": ROUNDS, "rows": rows}


def _row(
    kind: str,
    size: tuple[int, int],
    source: Path,
    voice: Path,
    out: Path,
    floor_of: Callable[[Path, Path, Path], Callable[[], None]],
    seconds: float,
) -> dict:
    render(source, voice, out)  # loads what is loaded once
    least_of = out.with_name("floor.mp4")
    floor = floor_of(out if kind == "still" else source, voice, least_of)
    jobs, floors = [], []
    for _ in range(ROUNDS):
        jobs.append(_timed(lambda: render(source, voice, out)))
        floors.append(_timed(floor))
    stages = dict.fromkeys(STAGES, 0.0)
    with ExitStack() as stack:
        for stage, (owner, name) in STAGES.items():
            timed = _watched(getattr(owner, name), stage, stages)
            stack.enter_context(patch.object(owner, name, timed))
        frames = render(source, voice, out).frames
    job, least = min(jobs), min(floors)
    return {
        "kind": kind,
        "size": f"{size[0]}x{size[1]}",
        "frames": frames,
        "job_seconds": round(job, 2),
        "of_real_time": round(job / seconds, 2),
        "floor_seconds": round(least, 2),
        "ratio_to_floor": round(job / least, 2),
        "cpu_ms_a_frame": {k: round(1000 * v / frames, 2) for k, v in stages.items()},
    }


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _watched(function: Callable, stage: str, spent: dict[str, float]) -> Callable:
    """The function, its own thread's processor time added up; generators while they run."""

    def each(items: Iterator) -> Iterator:
        while True:
            start = time.thread_time()
            item = next(items, items)
            spent[stage] += time.thread_time() - start
            if item is items:
                return
            yield item

    def call(*arguments: object, **named: object) -> object:
        start = time.thread_time()
        result = function(*arguments, **named)
        spent[stage] += time.thread_time() - start
        return each(result) if isinstance(result, Iterator) else result

    return call


def _still(folder: Path, width: int, height: int) -> Path:
    """The portrait, cropped to the shape and scaled."""
    picture = Image.open(ASSETS / "portrait.jpg")
    high = round(picture.width * height / width)
    path = folder / f"still-{width}.png"
    picture.crop((0, 0, picture.width, high)).resize((width, height)).save(path)
    return path


def _clip(folder: Path, width: int, height: int) -> Path:
    """The sample clip, cropped to the shape and scaled, as long as the benchmark's voice."""
    path = folder / f"clip-{width}.mp4"
    voice = ASSETS / "speech.wav"
    with Clip(ASSETS / "clip.mp4") as clip:
        high = round(clip.width * height / width)
        with Writer(path, width, height, clip.fps, voice, len(load_voice(voice)) / 16_000) as out:
            for frame in clip.frames(out.frame_count):
                out.write(np.asarray(cv2.resize(frame[:high], (width, height)), np.uint8))
    return path


def _encode_only(made: Path, voice: Path, out: Path) -> Callable[[], None]:
    """Encoding of the frames that the job made: a picture that stands still would cost nothing."""
    with Clip(made) as clip:
        frames = list(clip.frames())
        size = clip.width, clip.height

    def work() -> None:
        with Writer(out, *size, 25, voice, _seconds(voice)) as writer:
            for frame in frames:
                writer.write(frame)

    return work


def _decode_find_encode(source: Path, voice: Path, out: Path) -> Callable[[], None]:
    def work() -> None:
        with Clip(source) as clip:
            writer = Writer(out, clip.width, clip.height, clip.fps, voice, _seconds(voice))
            with writer:
                for rgb, _ in track(clip.frames(writer.frame_count), FaceFinder(), None):
                    writer.write(rgb)

    return work


def _seconds(voice: Path) -> float:
    return len(load_voice(voice)) / 16_000

"""How fast the engine renders, against the least that any engine has to do.

The floor of a still is encoding alone; of a clip decoding, landmarks and encoding. Both are
measured in the same run as the job, since machines are noisy: read the ratios.
"""

import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from kolbo_demo.engine.face import FaceFinder, track
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video import Clip, Writer, load_voice
from kolbo_demo.media import inspect_audio

ASSETS = Path(__file__).parents[1] / "assets"
SIZES = ((512, 512), (1280, 720))
ROUNDS = 3

STAGES = {
    "decode": ("video.py", "_rgb"),
    "landmarks": ("face.py", "_landmarks"),
    "head and lids": ("life.py", "head_map"),
    "warp": ("deform.py", "__call__"),
    "mouth": ("deform.py", "compose"),
    "encode": ("video.py", "write"),
    "phonemes": ("speech.py", "phonemes"),
}
"""A stage's name and the function whose time, all it calls included, it is."""


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
                ("still", still, lambda s=still: _encode_only(s, voice, out)),
                ("clip", clip, lambda s=clip: _decode_find_encode(s, voice, out)),
            ):
                rows.append(_row(kind, (width, height), source, voice, out, floor, seconds))
    return {"cores": os.cpu_count(), "voice_seconds": seconds, "rounds": ROUNDS, "rows": rows}


def _row(
    kind: str,
    size: tuple[int, int],
    source: Path,
    voice: Path,
    out: Path,
    floor: Callable[[], None],
    seconds: float,
) -> dict:
    render(source, voice, out)  # loads what is loaded once
    jobs, floors = [], []
    for _ in range(ROUNDS):
        jobs.append(_timed(lambda: render(source, voice, out)))
        floors.append(_timed(floor))
    profile = cProfile.Profile()
    frames = profile.runcall(render, source, voice, out).frames
    job, least = min(jobs), min(floors)
    return {
        "kind": kind,
        "size": f"{size[0]}x{size[1]}",
        "frames": frames,
        "job_seconds": round(job, 2),
        "of_real_time": round(job / seconds, 2),
        "floor_seconds": round(least, 2),
        "ratio_to_floor": round(job / least, 2),
        "ms_a_frame_profiled": _stages(profile, frames),
    }


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _stages(profile: cProfile.Profile, frames: int) -> dict[str, float]:
    rows = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    out = {}
    for stage, (file, function) in STAGES.items():
        spent = sum(
            row[3] for (path, _, name), row in rows.items()
            if name == function and Path(path).name == file and "engine" in path
        )  # fmt: skip
        out[stage] = round(1000 * spent / frames, 2)
    return out


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


def _encode_only(still: Path, voice: Path, out: Path) -> None:
    picture = np.asarray(Image.open(still).convert("RGB"))
    with Writer(out, picture.shape[1], picture.shape[0], 25, voice, _seconds(voice)) as writer:
        for _ in range(writer.frame_count):
            writer.write(picture)


def _decode_find_encode(source: Path, voice: Path, out: Path) -> None:
    with Clip(source) as clip:
        writer = Writer(out, clip.width, clip.height, clip.fps, voice, _seconds(voice))
        with writer:
            frames: Iterator = track(clip.frames(writer.frame_count), FaceFinder(), None)
            for rgb, _ in frames:
                writer.write(rgb)


def _seconds(voice: Path) -> float:
    return len(load_voice(voice)) / 16_000

"""How believable the lips are that the engine makes: what an independent judge would measure.

Renders pictures and clips with voices that are not theirs and has `engine.judge` look at them. On
what ships; with KOLBO_MEDIA naming a folder of `portraits/`, `speech/` and `clips/` on those too.
"""

import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from kolbo_demo.engine.head_pose import EYE_CORNERS_MM, RIGID, Pose
from kolbo_demo.engine.landmarks import FaceFinder, find_speaker
from kolbo_demo.engine.render import render
from kolbo_demo.engine.sync_eval.judge import judge
from kolbo_demo.engine.sync_eval.lip_motion import mouth_sharpness, watch
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.probe import upright_image

ASSETS = Path(__file__).parents[1] / "assets"
VOICES = 4
"""Voices for each picture, another choice for each."""
LOOK = 12
"""Frames of a video that are compared with its source."""
LOWER_FACE = (4, 132, 361, 50, 280, 58, 288, 172, 397, 136, 365, 150, 379, 152, 205, 425)
"""Landmarks around what a clip's new mouth may change: nose tip, cheeks, jaw."""
SPARE = 1.25
"""How much wider than them: the chin drops and cheeks follow."""

Job = tuple[Path, Path]


def measure() -> dict:
    """A table of what is found beside what is wanted, and a row for each video."""
    stills, clips = _shipped()
    if media := os.environ.get("KOLBO_MEDIA"):
        real = _media(Path(media))
        stills, clips = [*stills, *real[0]], [*clips, *real[1]]
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(*job, Path(folder) / "out.mp4") for job in chain(stills, clips)]
    return {"table": table(rows), "rows": rows}


def _shipped() -> tuple[list[Job], list[Job]]:
    voice, clip = ASSETS / "speech.wav", ASSETS / "clip.mp4"
    return [(ASSETS / "portrait.jpg", voice), (ASSETS / "portrait.jpg", clip)], [(clip, voice)]


def _media(folder: Path) -> tuple[list[Job], list[Job]]:
    """Pictures with voices, clips with voices of other people."""
    voices = [*sorted((folder / "speech").glob("*.wav")), ASSETS / "speech.wav"]
    pictures = sorted(p for p in (folder / "portraits").iterdir() if p.suffix in {".jpg", ".png"})
    stills = [
        (picture, voices[(index + 2 * turn) % len(voices)])
        for index, picture in enumerate(pictures)
        for turn in range(VOICES)
    ]
    clips = sorted(p for p in (folder / "clips").iterdir() if p.suffix == ".mp4")
    return stills, [(clip, voices[i % len(voices)]) for i, clip in enumerate(clips[1::2])]


def _row(source: Path, voice: Path, out: Path) -> dict:
    """One video, made and judged."""
    made = render(source, voice, out)
    report = judge(out)
    row = report.summary()
    row = {"source": source.name, "voice": voice.name, "skipped": made.skipped} | {
        name: row[name]
        for name in (
            "verdict", "sync", "offset_ms", "closures", "closures_hit", "closures_chance",
            "rounding", "pause_motion", "shake", "sharpness", "notes",
        )
    }  # fmt: skip
    row["frame_ms"] = round(1000 / made.fps)
    if source.suffix in {".jpg", ".png"}:
        own, first = _of_picture(source)
    else:
        own = watch(source).sharpness
        with Clip(source) as clip:
            first = next(clip.frames(1))
        row["psnr_outside"] = round(_psnr_outside(source, out), 1)
    if own and report.sharpness:
        row["sharpness_of_source"] = round(report.sharpness / own, 3)
    row["person_mm"] = round(_changed(first, out), 2)
    return row


def _of_picture(source: Path) -> tuple[float | None, Pixels]:
    """How sharp the mouth of a picture is beside its eyes and nose, and its pixels."""
    rgb = np.asarray(upright_image(source))
    return mouth_sharpness(rgb, find_speaker(rgb, FaceFinder(), None)), rgb


def _changed(picture: Pixels, video: Path) -> float:
    """How far forehead, eyes and nose of the person in a video are from those of a picture, head
    for head (similarity taken out), median in mm of 92 between the outer eye corners."""
    finder = FaceFinder()
    rigid = list(RIGID)
    own = find_speaker(picture, finder, None).points.astype(np.float64)[rigid]
    own *= EYE_CORNERS_MM / np.linalg.norm(own[RIGID.index(33)] - own[RIGID.index(263)])
    apart = []
    for rgb in _some(video):
        points = find_speaker(rgb, finder, None).points.astype(np.float64)[rigid]
        pose = Pose.aligning(points, own)
        laid = points @ pose.matrix.T + pose.shift
        apart.append(np.linalg.norm(laid - own, axis=1).mean())
    return float(np.median(apart))


def _some(video: Path) -> Iterator[Pixels]:
    with Clip(video) as clip:
        every = max(clip.frame_count // LOOK, 1)
        yield from (rgb for i, rgb in enumerate(clip.frames()) if i % every == 0)


def _psnr_outside(source: Path, video: Path) -> float:
    """Decibels between a clip and what was made of it, the lower face left out."""
    finder = FaceFinder()
    error = count = 0.0
    with Clip(source) as before, Clip(video) as after:
        frames = min(after.frame_count, before.frame_count)
        every = max(frames // LOOK, 1)
        pairs = zip(before.frames(frames), after.frames(frames), strict=True)
        for one, two in (pair for i, pair in enumerate(pairs) if i % every == 0):
            rim = find_speaker(one, finder, None).points[list(LOWER_FACE), :2]
            rim = rim.mean(0) + SPARE * (rim - rim.mean(0))
            outside = np.ones(one.shape[:2], np.uint8)
            cv2.fillConvexPoly(outside, cv2.convexHull(np.rint(rim).astype(np.int32)), 0)
            wrong = (one.astype(np.float32) - two) ** 2
            error += float((wrong * outside[..., None]).sum())
            count += 3 * float(outside.sum())
    return 10 * np.log10(255**2 * count / max(error, 1e-9))


def table(rows: list[dict]) -> dict:
    """What is found over all videos, and what is wanted."""

    def all_of(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows if row.get(name) is not None], np.float64)

    spoken = all_of("closures")
    total = max(float(spoken.sum()), 1.0)

    def pooled(name: str) -> float:
        return float(sum((row[name] or 0.0) * row["closures"] for row in rows)) / total

    late = [abs(row["offset_ms"]) / row["frame_ms"] for row in rows]
    found = {
        "sync at lag 0, median": (np.median(all_of("sync")), ">= 0.70"),
        "offset, frames at most": (max(late), "<= 1"),
        "closures hit, pooled": (pooled("closures_hit"), ">= 0.95"),
        "closures over chance": (pooled("closures_hit") - pooled("closures_chance"), ">= 0.70"),
        "rounding, mean": (np.mean(all_of("rounding")), ">= 0.95"),
        "lip speed in pauses over speech, median": (np.median(all_of("pause_motion")), "<= 0.35"),
        "the same, at most": (all_of("pause_motion").max(), ""),
        "sharpness of the source's, median": (np.median(all_of("sharpness_of_source")), ">= 0.9"),
        "the same, at least": (all_of("sharpness_of_source").min(), ""),
        "upper face changed, mm at most": (all_of("person_mm").max(), ""),
        "clips: dB outside the lower face, at least": (all_of("psnr_outside").min(), ">= 40"),
    }
    return {
        name: {"found": round(float(value), 3), "wanted": wanted}
        for name, (value, wanted) in found.items()
    } | {"videos": len(rows), "closures": int(total)}


def missed(figures: dict) -> list[str]:
    """The targets that were not met."""
    rows = [(name, row) for name, row in figures["table"].items() if isinstance(row, dict)]
    return [
        f"{name}: {row['found']}, wanted {row['wanted']}"
        for name, row in rows
        if row["wanted"] and not _met(row["found"], row["wanted"])
    ]


def _met(found: float, wanted: str) -> bool:
    sign, bound = wanted.split()
    return found >= float(bound) if sign == ">=" else found <= float(bound)

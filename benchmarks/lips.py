"""Quality of the engine's lips, as measured by the judge.

Renders pictures and clips with voices of other people and judges the results. On shipped media, and
with KOLBO_MEDIA on a folder of `portraits/`, `speech/` and `clips/`.
"""

import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.head_pose import EYE_CORNERS_MM, RIGID_LANDMARKS, Pose
from kolbo_demo.engine.landmarks import FaceLandmarker, detect_speaker
from kolbo_demo.engine.render import render
from kolbo_demo.engine.sync_eval.judge import judge
from kolbo_demo.engine.sync_eval.lip_motion import extract_lip_motion, mouth_sharpness
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.probe import upright_image

VOICES_PER_PICTURE = 4
SAMPLED_FRAMES = 12
"""Frames of a video to compare with its source."""
LOWER_FACE = (4, 132, 361, 50, 280, 58, 288, 172, 397, 136, 365, 150, 379, 152, 205, 425)
"""Landmarks around the area that a clip's new mouth may change: nose tip, cheeks, jaw."""
OUTLINE_SCALE = 1.25
"""Enlarges that area: the chin drops and cheeks follow."""

Job = tuple[Path, Path]


def measure() -> dict:
    """Summary with targets, and a row for each video."""
    stills, clips = shipped()
    if media := os.environ.get("KOLBO_MEDIA"):
        real = recordings(Path(media))
        stills, clips = [*stills, *real[0]], [*clips, *real[1]]
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measure_video(*job, Path(folder) / "out.mp4") for job in chain(stills, clips)]
    return {"table": table(rows), "rows": rows}


def shipped() -> tuple[list[Job], list[Job]]:
    """Shipped sources and voices: stills, then clips."""
    voice, clip = ASSETS / "speech.wav", ASSETS / "clip.mp4"
    return [(ASSETS / "portrait.jpg", voice), (ASSETS / "portrait.jpg", clip)], [(clip, voice)]


def recordings(folder: Path) -> tuple[list[Job], list[Job]]:
    """Pictures with voices, and clips with voices of other people."""
    voices = [*sorted((folder / "speech").glob("*.wav")), ASSETS / "speech.wav"]
    pictures = sorted(p for p in (folder / "portraits").iterdir() if p.suffix in {".jpg", ".png"})
    stills = [
        (picture, voices[(index + 2 * turn) % len(voices)])
        for index, picture in enumerate(pictures)
        for turn in range(VOICES_PER_PICTURE)
    ]
    clips = sorted(p for p in (folder / "clips").iterdir() if p.suffix == ".mp4")
    return stills, [(clip, voices[i % len(voices)]) for i, clip in enumerate(clips[1::2])]


def _measure_video(source: Path, voice: Path, out: Path) -> dict:
    rendered = render(source, voice, out)
    report = judge(out)
    row = report.summary()
    row = {"source": source.name, "voice": voice.name, "skipped": rendered.skipped} | {
        name: row[name]
        for name in (
            "verdict", "sync", "offset_ms", "closures", "closures_hit", "closures_chance",
            "rounding", "pause_motion", "shake", "sharpness", "notes",
        )
    }  # fmt: skip
    row["frame_ms"] = round(1000 / rendered.fps)
    if source.suffix in {".jpg", ".png"}:
        source_sharpness, first = _picture_sharpness(source)
    else:
        source_sharpness = extract_lip_motion(source).sharpness
        with Clip(source) as clip:
            first = next(clip.frames(1))
        row["psnr_outside"] = round(_psnr_outside(source, out), 1)
    if source_sharpness and report.sharpness:
        row["sharpness_of_source"] = round(report.sharpness / source_sharpness, 3)
    row["person_mm"] = round(_identity_change_mm(first, out), 2)
    return row


def _picture_sharpness(source: Path) -> tuple[float | None, Pixels]:
    """Mouth sharpness of a picture, and its pixels."""
    rgb = np.asarray(upright_image(source))
    return mouth_sharpness(rgb, detect_speaker(rgb, FaceLandmarker(), None)), rgb


def _identity_change_mm(picture: Pixels, video: Path) -> float:
    """Median distance of forehead, eyes and nose in a video from those of a picture after alignment
    by a similarity, in mm (EYE_CORNERS_MM between the outer eye corners)."""
    landmarker = FaceLandmarker()
    rigid = list(RIGID_LANDMARKS)
    own = detect_speaker(picture, landmarker, None).points.astype(np.float64)[rigid]
    own *= EYE_CORNERS_MM / np.linalg.norm(
        own[RIGID_LANDMARKS.index(33)] - own[RIGID_LANDMARKS.index(263)]
    )
    distances = []
    for rgb in _sample_frames(video):
        points = detect_speaker(rgb, landmarker, None).points.astype(np.float64)[rigid]
        pose = Pose.fit(points, own)
        aligned = points @ pose.matrix.T + pose.shift
        distances.append(np.linalg.norm(aligned - own, axis=1).mean())
    return float(np.median(distances))


def _sample_frames(video: Path) -> Iterator[Pixels]:
    with Clip(video) as clip:
        every = max(clip.frame_count // SAMPLED_FRAMES, 1)
        yield from (rgb for i, rgb in enumerate(clip.frames()) if i % every == 0)


def _psnr_outside(source: Path, video: Path) -> float:
    """PSNR in dB between a clip and its render, without the lower face."""
    landmarker = FaceLandmarker()
    error = count = 0.0
    with Clip(source) as before, Clip(video) as after:
        frames = min(after.frame_count, before.frame_count)
        every = max(frames // SAMPLED_FRAMES, 1)
        pairs = zip(before.frames(frames), after.frames(frames), strict=True)
        for one, two in (pair for i, pair in enumerate(pairs) if i % every == 0):
            outline = detect_speaker(one, landmarker, None).points[list(LOWER_FACE), :2]
            outline = outline.mean(0) + OUTLINE_SCALE * (outline - outline.mean(0))
            outside = np.ones(one.shape[:2], np.uint8)
            cv2.fillConvexPoly(outside, cv2.convexHull(np.rint(outline).astype(np.int32)), 0)
            squared_error = (one.astype(np.float32) - two) ** 2
            error += float((squared_error * outside[..., None]).sum())
            count += 3 * float(outside.sum())
    return 10 * np.log10(255**2 * count / max(error, 1e-9))


def table(rows: list[dict]) -> dict:
    """Results over all videos, and their targets."""

    def all_of(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows if row.get(name) is not None], np.float64)

    spoken = all_of("closures")
    total = max(float(spoken.sum()), 1.0)

    def pooled(name: str) -> float:
        return float(sum((row[name] or 0.0) * row["closures"] for row in rows)) / total

    late = [abs(row["offset_ms"]) / row["frame_ms"] for row in rows]
    results = {
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
        name: {"found": round(float(value), 3), "wanted": target}
        for name, (value, target) in results.items()
    } | {"videos": len(rows), "closures": int(total)}


def missed(figures: dict) -> list[str]:
    rows = [(name, row) for name, row in figures["table"].items() if isinstance(row, dict)]
    return [
        f"{name}: {row['found']}, target {row['wanted']}"
        for name, row in rows
        if row["wanted"] and not _met(row["found"], row["wanted"])
    ]


def _met(value: float, target: str) -> bool:
    sign, bound = target.split()
    return value >= float(bound) if sign == ">=" else value <= float(bound)

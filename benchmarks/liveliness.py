"""Head motion, blinks and gaze of rendered stills beside those of people, as measured by the judge.

Renders pictures with voices. On shipped media, and with KOLBO_MEDIA on a folder of `portraits/`,
`speech/`, `clips/` and `tracks/`: people are measured in the clips and the tracks.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.lips import recordings, shipped
from kolbo_demo.engine.render import render
from kolbo_demo.engine.sync_eval.head_motion import UPPER_FACE, HeadMotion, measure_head
from kolbo_demo.engine.sync_eval.lip_motion import extract_lip_motion

MIN_TRACK_SECONDS = 4.0
ANGLES = ("pitch", "yaw", "roll")
TARGETS = {
    "spread": ((1.4, 4.1), (0.9, 5.8), (0.8, 4.6)),
    "speed": ((5.0, 10.0), (5.0, 10.0), (3.0, 7.0)),
    "top speed": (0.0, 60.0),
    "blinks": (5.0, 30.0),
}
"""Ranges for each still; of blinks a minute for all stills together. Spreads are the quartiles of
people."""


def measure() -> dict:
    """Quartiles of people and of stills, and a row for each video."""
    stills = shipped()[0]
    people: dict[str, list[dict]] = {}
    if media := os.environ.get("KOLBO_MEDIA"):
        stills += recordings(Path(media))[0][::2]
        clips = sorted(p for p in (Path(media) / "clips").iterdir() if p.suffix == ".mp4")
        people["clips of people"] = [_row(clip.name, _of_video(clip)) for clip in clips]
        people["tracks of people, landmarks"] = list(_of_tracks(Path(media) / "tracks", False))
        people["tracks of people, fitted pose"] = list(_of_tracks(Path(media) / "tracks", True))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for picture, voice in stills:
            render(picture, voice, Path(folder) / "out.mp4")
            name = f"{picture.name}, {voice.name}"
            rows.append(_row(name, _of_video(Path(folder) / "out.mp4")))
    tables = {name: _quartiles(found) for name, found in {**people, "stills": rows}.items()}
    return {
        "table": tables,
        "rows": rows,
        "clips": people.get("clips of people", []),
    }


def _of_video(video: Path) -> HeadMotion:
    head = extract_lip_motion(video).head
    assert head is not None
    return head


def _of_tracks(folder: Path, pose: bool) -> Iterator[dict]:
    """People's landmarks, or the rotations that the tracks' own landmarker fitted to them."""
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["seconds"] < MIN_TRACK_SECONDS:
            continue
        with np.load(folder / f"{entry['name']}.npz") as track:
            if pose:
                axes = np.concatenate([np.eye(3), -np.eye(3)])
                turns = track["pose"][:, :3, :3].astype(np.float64)
                points = np.einsum("nij,kj->nki", turns, axes) * (1.0, -1.0, -1.0)
            else:
                index = track["index"].tolist()
                columns = [index.index(point) for point in UPPER_FACE if point in index]
                points = track["points"][:, columns].astype(np.float64)
            head = measure_head(points, np.zeros((len(points), 0, 3)), float(track["fps"]))
        yield _row(entry["name"], head)


def _row(name: str, head: HeadMotion) -> dict:
    def rounded(values: np.ndarray) -> list[float]:
        return [round(float(value), 2) for value in values]

    return {
        "name": name,
        "spread": rounded(head.spread),
        "speed": rounded(head.speed),
        "noise": rounded(head.noise),
        "noise speed": rounded(head.noise_speed),
        "top speed": round(head.top_speed, 1),
        "blinks": round(head.blinks, 1),
        "gaze shifts": round(head.gaze_shifts, 1),
        "seconds": round(len(head.angles) / head.fps, 2),
    }


def _quartiles(rows: list[dict]) -> dict:
    """Median (quartiles) over videos of pitch / yaw / roll, in degrees (a second); blinks
    and gaze shifts a minute over all videos together."""
    table: dict = {"videos": len(rows)}
    for name in ("spread", "speed", "noise", "noise speed", "top speed"):
        values = np.array([row[name] for row in rows]).reshape(len(rows), -1)
        low, median, high = np.percentile(values, [25, 50, 75], axis=0)
        table[name] = " / ".join(
            f"{m:.1f} ({lo:.1f}-{hi:.1f})" for m, lo, hi in zip(median, low, high, strict=True)
        )
    table["largest top speed"] = max(row["top speed"] for row in rows)
    seconds = np.array([row["seconds"] for row in rows])
    for name in ("blinks", "gaze shifts"):
        values = np.array([row[name] for row in rows])
        if not np.isnan(values).any():
            table[name] = round(float(values @ seconds / seconds.sum()), 1)
    return table


def missed(figures: dict) -> list[str]:
    """Targets that were missed."""
    found = []
    for row in figures["rows"]:
        for name in ("spread", "speed"):
            for angle, value, bounds in zip(ANGLES, row[name], TARGETS[name], strict=True):
                found.append((f"{row['name']}: {name} of {angle}", value, bounds))
        found.append((f"{row['name']}: top speed", row["top speed"], TARGETS["top speed"]))
    found.append(("blinks a minute", figures["table"]["stills"]["blinks"], TARGETS["blinks"]))
    return [
        f"{name}: {value}, target {low:g} to {high:g}"
        for name, value, (low, high) in found
        if not low <= value <= high
    ]

"""Mouth curves from landmark tracks, and their evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fitting import dataset, evaluation
from kolbo_demo.engine.head_pose import CHIN, EYE_CORNERS_MM
from kolbo_demo.engine.landmarks import FaceLandmarker
from tests import samples

PORTRAIT = samples.SPEECH.parent / "portrait.jpg"
FRAMES = 40
LOWER = (14, 87, 317)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One clip: the portrait's face, turning and nodding, its lower lip going down and up."""
    face = FaceLandmarker().detect(np.asarray(Image.open(PORTRAIT).convert("RGB")))[0].points
    unit = np.linalg.norm(face[33] - face[263]) / EYE_CORNERS_MM
    names = ["mouthPucker", "mouthFunnel", "mouthRollLower", "jawOpen"]
    points = []
    for i in range(FRAMES):
        moved = face.astype(float).copy()
        moved[list(LOWER), 1] += opening(i) * unit
        turn, nod = 0.3 * np.sin(i / 5), 0.2 * np.sin(i / 7)
        c, s, d, t = np.cos(turn), np.sin(turn), np.cos(nod), np.sin(nod)
        matrix = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array(
            [[1, 0, 0], [0, d, -t], [0, t, d]]
        )
        points.append(moved @ matrix.T + np.array([i, -i, 0]))
    np.savez(
        tmp_path / "clip.npz", points=np.array(points, np.float32), index=np.arange(478),
        blendshapes=np.zeros((FRAMES, 4), np.float16), blendshape_names=np.array(names),
    )  # fmt: skip
    samples.recording(tmp_path / "clip.wav", FRAMES / 25).rename(tmp_path / "clip.flac")
    entry = {"name": "clip", "speaker": "a", "fold": 0, "seconds": FRAMES / 25, "fps": 25}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    return tmp_path


def opening(frame: int) -> float:
    return 4 + 4 * float(np.sin(frame / 3))


def test_curves_are_millimetres_without_head_motion(folder: Path):
    (clip,) = dataset.load(folder, variants=1)
    read = clip.mouth["opening"]
    assert np.corrcoef(read, [opening(i) for i in range(FRAMES)])[0, 1] > 0.99
    assert np.ptp(read) == pytest.approx(8, abs=1.0)
    assert clip.mouth["width"].std() < 0.5
    assert clip.mouth["jaw"].std() < 0.5, f"the chin ({CHIN}) did not move"
    assert clip.mouth["width in image"].std() == pytest.approx(clip.mouth["width"].std(), abs=0.5)
    plain, augmented = clip.voices
    assert plain.inputs.shape == (81, 736)
    assert len(augmented.inputs) == pytest.approx(80 * augmented.stretch, abs=2)


def test_evaluation_separates_perfect_curves_from_random_ones(folder: Path):
    clips = dataset.load(folder, variants=0)
    perfect = np.stack([clips[0].mouth[name] for name in dataset.CURVE_NAMES])
    other = np.random.default_rng(1).standard_normal(perfect.shape).astype(np.float32)
    lines = [
        list(evaluation.correlation_lines(clips, {"clip": curves})) for curves in (perfect, other)
    ]
    first = [float(line[1].split()[3]) for line in lines]
    assert first[0] == pytest.approx(1, abs=0.01)
    assert abs(first[1]) < 0.5

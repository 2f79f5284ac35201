"""Head motion, blinks and gaze, from landmarks of known motion and from a video's pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine.sync_eval.head_motion import EYE_POINTS, UPPER_FACE, measure_head
from kolbo_demo.engine.sync_eval.lip_motion import extract_lip_motion
from tests import samples

FPS, FRAMES = 25.0, 250
TIME = np.arange(FRAMES) / FPS


def turned(pitch: np.ndarray, yaw: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Landmarks (frames, points, 3) of a head with these angles in degrees, without noise."""
    head = 80 * np.random.default_rng(1).standard_normal((len(UPPER_FACE), 3))
    frames = []
    for angles in np.radians(np.stack([pitch, yaw, roll], 1)):
        (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        frames.append(head @ (about_z @ about_y @ about_x).T + 200)
    return np.array(frames)


def eyes(opening: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Two eyes 30 pixels wide: opening in pixels, and the iris's place from 0 to 1."""
    points = np.zeros((len(opening), len(EYE_POINTS), 3))
    for first, left in ((0, 100.0), (5, 170.0)):
        points[:, first : first + 5, 0] = left + np.array([0.0, 30.0, 15.0, 15.0, 0.0])
        points[:, first + 4, 0] += 30 * gaze
        points[:, first + 2, 1] = -opening / 2
        points[:, first + 3, 1] = opening / 2
    return points


def test_rotation_is_measured_about_each_axis():
    waves = [size * np.sin(2 * np.pi * TIME / 2.5) for size in (4.0, 6.0, 2.0)]
    for axis in range(3):
        angles = [wave if i == axis else 0 * wave for i, wave in enumerate(waves)]
        found = measure_head(turned(*angles), np.zeros((FRAMES, 0, 3)), FPS)
        size = (4.0, 6.0, 2.0)[axis]
        assert found.spread[axis] == pytest.approx(size / np.sqrt(2), rel=0.05)
        assert found.speed[axis] == pytest.approx(size * 4 / 2.5, rel=0.05)
        assert found.top_speed == pytest.approx(size * 2 * np.pi / 2.5, rel=0.1)
        assert max(np.delete(found.spread, axis)) < 0.1


def test_noise_of_landmarks_is_estimated():
    """Its part of the speed is about what a head at rest is measured with."""
    random = np.random.default_rng(3)
    still = turned(0 * TIME, 0 * TIME, 0 * TIME)
    noisy = still + 0.5 * random.standard_normal(still.shape)
    found = measure_head(noisy, np.zeros((FRAMES, 0, 3)), FPS)
    assert found.noise_speed == pytest.approx(found.speed, rel=0.3)
    moving = turned(5 * np.sin(2 * np.pi * TIME / 4), 0 * TIME, 0 * TIME)
    again = measure_head(
        moving + 0.5 * random.standard_normal(still.shape), np.zeros((FRAMES, 0, 3)), FPS
    )
    assert again.noise == pytest.approx(found.noise, rel=0.4)


def test_blinks_and_gaze_shifts_are_counted():
    opening = np.full(FRAMES, 10.0)
    for frame in (30, 100, 180):
        opening[frame : frame + 5] = (6, 2, 1, 3, 7)
    opening[210:240] = 1.0  # closed for longer than a blink
    gaze = np.where((TIME > 3) & (TIME < 7), 0.6, 0.4)
    found = measure_head(turned(0 * TIME, 0 * TIME, 0 * TIME), eyes(opening, gaze), FPS)
    assert found.blinks == pytest.approx(3 * 60 / (FRAMES / FPS))
    assert found.gaze_shifts == pytest.approx(2 * 60 / (FRAMES / FPS))


def test_frames_without_a_face_are_left_out():
    wave = 4 * np.sin(2 * np.pi * TIME / 2.5)
    points = turned(wave, 0 * wave, 0 * wave)
    whole = measure_head(points, np.zeros((FRAMES, 0, 3)), FPS)
    points[50:60] = np.nan
    found = measure_head(points, np.zeros((FRAMES, 0, 3)), FPS)
    assert found.spread == pytest.approx(whole.spread, abs=0.3)
    assert np.isnan(found.angles[50:60]).all()
    points[:] = np.nan
    assert np.isnan(measure_head(points, np.zeros((FRAMES, 0, 3)), FPS).top_speed)


def test_roll_is_measured_from_pixels(tmp_path: Path):
    picture = np.asarray(Image.open(samples.PORTRAIT).convert("RGB"))
    size = (picture.shape[1], picture.shape[0])
    rolls = 4 * np.sin(2 * np.pi * np.arange(40) / 40)
    frames = [
        np.asarray(
            cv2.warpAffine(
                picture, cv2.getRotationMatrix2D((230, 120), -roll, 1.0), size,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.uint8,
        )
        for roll in rolls
    ]  # fmt: skip
    head = extract_lip_motion(samples.video(tmp_path / "roll.mp4", pictures=frames)).head
    assert head is not None
    assert head.spread[2] == pytest.approx(rolls.std(), rel=0.1)
    assert head.spread[:2].max() < 1.0
    assert head.blinks == 0

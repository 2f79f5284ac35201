"""Faces as they come: turned, cut by the border, tiny, hidden, or none at all."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine.compositor import animate_still
from kolbo_demo.engine.idle_motion import IdleMotion
from kolbo_demo.engine.landmarks import FaceLandmarker, FaceLandmarks, detect_speaker
from kolbo_demo.engine.mouth_curves import mouth_curves
from kolbo_demo.engine.occlusion import is_mouth_visible
from kolbo_demo.engine.prepare import read_features
from kolbo_demo.engine.render import render
from kolbo_demo.engine.speaker import Speaker
from kolbo_demo.engine.speech_features import extract_voice_features
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options
from kolbo_demo.preflight import Inspector
from tests import samples
from tests.engine import synthetic_people as people
from tests.engine.lip_measurements import measure_lips
from tests.wild import cases

SEED, CROPS = 20, cases.count(200)
MOUTH = [0, 17, 61, 291, 13, 14]
_landmarker = cache(FaceLandmarker)


@cache
def portrait() -> np.ndarray:
    """The sample's head and shoulders, about 256 pixels wide."""
    rgb = np.asarray(Image.open(samples.PORTRAIT).convert("RGB"))
    left, top, right, bottom = detect_speaker(rgb, FaceLandmarker(), None).box
    spare = 0.6 * (bottom - top)
    x, y = max(int(left - spare), 0), max(int(top - spare), 0)
    return np.ascontiguousarray(rgb[y : int(bottom + spare), x : int(right + spare)])


@cache
def face() -> FaceLandmarks:
    return _landmarker().detect(portrait())[0]


def rotated(rgb: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned on a larger canvas, and the affine from it."""
    height, width = rgb.shape[:2]
    side = int(np.hypot(height, width)) // 2 * 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    matrix[:, 2] += side / 2 - np.array([width / 2, height / 2])
    return np.asarray(cv2.warpAffine(rgb, matrix, (side, side)), np.uint8), matrix


def png(path: Path, rgb: np.ndarray) -> Path:
    Image.fromarray(rgb).save(path)
    return path


def voice(folder: Path) -> Path:
    return samples.cut_wav(folder / "voice.wav", samples.SPEECH, 1.0)


def generate(source: Path, folder: Path, *more: str) -> tuple[int, str, Path]:
    """Exit code, what is printed, and where the video would be."""
    out = folder / "out.mp4"
    words = ["generate", "--local", "--source", source, "--audio", voice(folder), "--output", out]
    command = [sys.executable, "-m", "kolbo_demo", *map(str, words), *more]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stderr, out


def centre_of_motion(video: Path) -> np.ndarray:
    """(x, y) of the middle of what changes in a video."""
    with Clip(video) as clip:
        frames = np.array([rgb.astype(np.int16).mean(-1) for rgb in clip.frames()])
    change = frames.std(0)
    change[change < 0.3 * change.max()] = 0
    y, x = np.mgrid[: change.shape[0], : change.shape[1]]
    return np.array([(x * change).sum(), (y * change).sum()]) / change.sum()


def test_no_crop_or_border_crashes_the_engine() -> None:
    speech = extract_voice_features(read_features(samples.SPEECH))
    curves, life = mouth_curves(speech, 25, 50), IdleMotion.from_loudness(speech.level, 25, 50)
    random, rendered = np.random.default_rng(SEED), 0
    rgb, (left, top, right, bottom) = portrait(), face().box
    for number in range(CROPS):
        cut = random.uniform(-0.35, 0.5, 4) * (random.random(4) < 0.7)
        across, down = (right - left), (bottom - top)
        x0, x1 = (int(v) for v in (left + cut[0] * across, right - cut[1] * across))
        y0, y1 = (int(v) for v in (top + cut[2] * down, bottom - cut[3] * down))
        part = rgb[max(y0, 0) : max(y1, y0 + 16), max(x0, 0) : max(x1, x0 + 16)]
        scale = 2 ** random.uniform(4, 7.2) / max(part.shape[:2])
        size = [max(int(length * scale) // 2 * 2, 2) for length in part.shape[1::-1]]
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        if number % 4 == 0:
            borders = [2 * int(v) for v in random.integers(0, 50, 4)]
            above, below, before, after = borders
            part = np.pad(part, ((above, below), (before, after), (0, 0)), constant_values=9)
        elif number % 4 == 1:
            part = np.rot90(part, int(random.integers(4)))
        elif number % 4 == 2:
            part = rotated(np.asarray(part, np.uint8), random.uniform(-60, 60))[0]
        picture = np.ascontiguousarray(part, np.uint8)
        try:
            found = detect_speaker(picture, _landmarker(), None)
        except MediaError:
            continue
        is_mouth_visible(_landmarker(), picture, found)
        speaker, points = Speaker.from_pictures([(picture, found)]), found.points.astype(np.float64)
        for shown in animate_still(picture, points, speaker, curves, life, range(20, 22)):
            assert shown.pixels.shape == picture.shape, f"seed {SEED}, crop {number}"
        rendered += 1
    assert rendered > CROPS / 4


@pytest.mark.parametrize("inside", [0.0, 0.05, 0.1])
def test_a_face_cropped_brow_to_chin_is_found(inside: float) -> None:
    left, top, right, bottom = face().box
    x, y = inside * (right - left), inside * (bottom - top)
    x0, y0, x1, y1 = (int(v) for v in (left + x, top + y, right - x, bottom - y))
    found = _landmarker().detect(np.ascontiguousarray(portrait()[y0:y1, x0:x1]))
    off = found[0].points[MOUTH, :2] + (x0, y0) - face().points[MOUTH, :2]
    assert np.linalg.norm(off, axis=1).max() < 0.1 * (right - left)


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_a_face_is_found_in_its_own_rotation(degrees: int) -> None:
    picture, matrix = rotated(portrait(), degrees)
    (found,) = _landmarker().detect(picture)
    truth = face().points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    off = np.linalg.norm(found.points[:, :2] - truth, axis=1)
    assert off.mean() < 0.05 * face().size
    assert is_mouth_visible(_landmarker(), picture, found)


@pytest.mark.parametrize("degrees", [90, 180, 40])
def test_the_mouth_of_a_turned_picture_moves(degrees: int, tmp_path: Path) -> None:
    picture, matrix = rotated(portrait(), degrees)
    source, out = png(tmp_path / "turned.png", picture), tmp_path / "out.mp4"
    calm = Options(prompt="still head, no blinking")
    render(source, voice(tmp_path), out, calm, workers=1)
    mouth = (face().points[MOUTH, :2] @ matrix[:, :2].T + matrix[:, 2]).mean(0)
    # The chin moves along, the other way round it would be the forehead.
    assert np.linalg.norm(centre_of_motion(out) - mouth) < 0.3 * face().size


def test_the_mouth_of_a_turned_clip_without_a_tag_moves(tmp_path: Path) -> None:
    shots, out = people.talking(8), tmp_path / "out.mp4"
    pictures = [np.ascontiguousarray(np.rot90(shot.rgb, 2)) for shot in shots]
    source = samples.video(
        tmp_path / "turned.mp4", 8, width=people.HEAD, height=people.HEAD, pictures=pictures
    )
    rendered = render(source, voice(tmp_path), out, workers=1)
    assert rendered.skipped == 0
    assert np.ptp(measure_lips(out).aperture) > 0.1
    around = people.HEAD - shots[0].points[MOUTH].mean(0)
    with Clip(out) as clip:
        seen = _landmarker().detect(next(clip.frames(1)))[0].points[MOUTH, :2].mean(0)
    assert np.linalg.norm(seen - around) < 0.05 * people.HEAD


def test_noise_and_hair_are_not_faces() -> None:
    random = np.random.default_rng(SEED)
    for blur in (0.5, 2, 6, 15):
        noise = cv2.GaussianBlur(random.normal(0, 1, (240, 320, 3)), (0, 0), blur)
        picture = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
        assert _landmarker().detect(picture) == []
    # The crown of a head alone.
    assert _landmarker().detect(np.ascontiguousarray(portrait()[: int(face().points[10, 1])])) == []


def masked(rgb: np.ndarray, landmarks: FaceLandmarks, colour: tuple[int, int, int]) -> np.ndarray:
    """With a mask of cloth, in folds, from the nose to under the chin."""
    rim = (227, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288,
           361, 323, 447, 346, 347, 348, 195, 119, 118, 117)  # fmt: skip
    cover = np.zeros(rgb.shape[:2], np.float32)
    cv2.fillPoly(cover, [np.rint(landmarks.points[list(rim), :2]).astype(np.int32)], 1.0)
    cover = cv2.GaussianBlur(cover, (0, 0), 1)[..., None]
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    folds = 1 + 0.08 * np.sin(y / 4 + np.sin(x / 40))[..., None]
    return np.clip(rgb * (1 - cover) + cover * np.array(colour) * folds, 0, 255).astype(np.uint8)


def test_a_masked_mouth_is_refused_without_insist(tmp_path: Path) -> None:
    source = png(tmp_path / "masked.png", masked(portrait(), face(), (150, 190, 215)))
    code, message, out = generate(source, tmp_path)
    assert code == 2
    assert "The mouth is not visible in the picture." in message
    assert not out.exists()
    code, message, out = generate(source, tmp_path, "--insist")
    assert code == 0, message
    assert out.exists()


def test_a_hidden_mouth_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    inspector = Inspector()
    try:
        for name, rgb in (
            ("seen", portrait()),
            ("masked", masked(portrait(), face(), (240, 240, 240))),
        ):
            _, picture = inspector.inspect_source(png(tmp_path / f"{name}.png", rgb))
            assert [one.hidden for one in picture.faces or []] == [name == "masked"]
    finally:
        inspector.close()


@pytest.mark.parametrize("landmark", [2, 13])
def test_a_picture_that_ends_at_nose_or_lip_is_refused(landmark: int, tmp_path: Path) -> None:
    rows = int(face().points[landmark, 1]) // 2 * 2
    source = png(tmp_path / "cut.png", np.ascontiguousarray(portrait()[:rows]))
    with pytest.raises(MediaError, match=r"mouth is not visible|No face was found"):
        render(source, voice(tmp_path), tmp_path / "out.mp4", workers=1)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("cover", [people.hand, people.microphone])
def test_a_hand_or_microphone_over_the_mouth_is_detected(
    cover: Callable[[people.Shot], np.ndarray],
) -> None:
    picture = cover(people.talking(1)[0])
    found = _landmarker().detect(picture)
    assert not found or not is_mouth_visible(_landmarker(), picture, found[0])


@pytest.mark.parametrize("light", [1.0, 0.45, 0.15])
def test_a_visible_mouth_is_accepted(light: float) -> None:
    for shot in people.talking(6)[::3]:
        picture = (shot.rgb * light).astype(np.uint8)
        assert is_mouth_visible(_landmarker(), picture, _landmarker().detect(picture)[0])

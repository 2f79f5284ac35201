"""Motion of a still that speaks, from its pixels."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine.landmarks import FaceLandmarker, detect_speaker, track_face
from kolbo_demo.engine.render import render
from kolbo_demo.engine.sync_eval.head_motion import HeadMotion
from kolbo_demo.engine.sync_eval.lip_motion import extract_lip_motion
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.options import Options
from tests import samples

WOMAN = samples.PORTRAIT.with_name("gallery") / "woman.jpg"
HOPPER = samples.PORTRAIT.with_name("gallery") / "hopper.jpg"
GRID_PIXELS = 16
HEAD_SCALE = 2.2
"""Of the face's outline: hair, ears and neck are within it."""


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _rendered(tmp_path_factory.mktemp("natural") / "out.mp4", None)


def _rendered(out: Path, prompt: str | None) -> Path:
    render(samples.PORTRAIT, samples.SPEECH, out, Options(prompt=prompt))
    return out


def _head(video: Path) -> HeadMotion:
    head = extract_lip_motion(video).head
    assert head is not None
    return head


def test_head_moves_as_people_do(natural: Path):
    """Within the quartiles of people, without a jump, and blinking."""
    head = _head(natural)
    assert np.all(head.spread > (1.4, 0.9, 0.8))
    assert np.all(head.spread < (4.1, 5.8, 4.6))
    assert np.all(head.speed > (3.0, 3.0, 2.0))
    assert np.all(head.speed < (10.0, 10.0, 7.0))
    assert head.top_speed < 60
    assert 5 <= head.blinks <= 35


@pytest.mark.parametrize(
    ("prompt", "low", "high"),
    [
        ("still head", 0.0, 0.3),
        ("calm head", 0.35, 0.65),
        ("look at the camera", 0.35, 0.65),
        ("lively head", 1.3, 1.9),
    ],
)
def test_prompt_scales_the_motion(
    natural: Path, prompt: str, low: float, high: float, tmp_path: Path
):
    plain, found = _head(natural), _head(_rendered(tmp_path / "out.mp4", prompt))
    assert low < float(np.linalg.norm(found.spread) / np.linalg.norm(plain.spread)) < high


def test_motion_starts_and_ends_at_the_pictures_own_pose(natural: Path):
    landmarker = FaceLandmarker()
    eyes_and_nose = [33, 133, 263, 362, 1, 6]

    def places(picture: np.ndarray) -> np.ndarray:
        return detect_speaker(picture, landmarker, None).points[eyes_and_nose, :2]

    own = places(np.asarray(Image.open(samples.PORTRAIT).convert("RGB")))
    with Clip(natural) as clip:
        frames = list(clip.frames())
    distance = [np.abs(places(frame) - own).max() for frame in (frames[0], frames[-1])]
    moved = max(np.abs(places(frame) - own).max() for frame in frames[10:-10:10])
    assert max(distance) < 1.5 < 3.0 < moved


def test_eyes_keep_looking_at_the_camera(tmp_path: Path):
    """Irises move against a turning head, and rest in one that is still."""
    lively, still = tmp_path / "lively.mp4", tmp_path / "still.mp4"
    for out in (lively, still):
        prompt = f"look at the camera, {out.stem} head"
        render(WOMAN, samples.SPEECH, out, Options(prompt=prompt))
    places = _iris_places(lively)
    # The judge's yaw is positive to the picture's left.
    assert np.corrcoef(places, _head(lively).angles[:, 1])[0, 1] > 0.6
    assert np.std(places) > 2 * np.std(_iris_places(still))


def test_rims_of_glasses_stay_while_lids_close(tmp_path: Path):
    """Skin between the rim and the eye stays light: no rim is pulled down with the lid."""
    picture = np.array(Image.open(HOPPER).convert("RGB"))
    points = detect_speaker(picture, FaceLandmarker(), None).points[:, :2]
    mm = float(np.linalg.norm(points[33] - points[263])) / 92
    skin = np.zeros(picture.shape[:2], bool)
    for lid in (159, 386):
        x, y = points[lid]
        skin[int(y - 5 * mm) : int(y), int(x - 6 * mm) : int(x + 6 * mm)] = True
    skin &= picture.mean(2) > 120
    quiet = samples.silent_wav(tmp_path / "quiet.wav", 2.4)
    render(HOPPER, quiet, tmp_path / "out.mp4", Options(prompt="still head"))
    with Clip(tmp_path / "out.mp4") as clip:
        light = [np.percentile(frame.mean(2)[skin], 10) for frame in clip.frames()]
    assert min(light) > 0.7 * light[0]
    assert _head(tmp_path / "out.mp4").blinks > 0


def _iris_places(video: Path) -> np.ndarray:
    """0-1 from the left to the right corner, mean of both eyes, in each frame."""
    with Clip(video) as clip:
        faces = [face for _, face in track_face(clip.frames(), FaceLandmarker(), None)]
    points = np.array([face.points[:, :2] for face in faces if face is not None])
    places = []
    for left, right, iris in ((33, 133, 468), (362, 263, 473)):
        across, off = points[:, right] - points[:, left], points[:, iris] - points[:, left]
        places.append((across * off).sum(1) / (across**2).sum(1))
    return np.mean(places, axis=0)


def test_lines_behind_the_head_stand_still(tmp_path: Path):
    """A grid around the head keeps its place to within half a pixel, in every frame."""
    picture = np.array(Image.open(samples.PORTRAIT).convert("RGB").crop((70, 0, 390, 320)))
    points = detect_speaker(picture, FaceLandmarker(), None).points[:, :2]
    centre = points.mean(0)
    outline = np.rint(centre + HEAD_SCALE * (points - centre)).astype(np.int32)
    around = np.ones(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(around, cv2.convexHull(outline), 0)
    around[int(points[:, 1].max()) :] = 0  # shoulders
    y, x = np.indices(picture.shape[:2])
    lines = (x % GRID_PIXELS < 2) | (y % GRID_PIXELS < 2)
    picture[around > 0] = np.where(lines, 30, 200)[around > 0][:, None]
    Image.fromarray(picture).save(tmp_path / "grid.png")
    render(tmp_path / "grid.png", samples.SPEECH, tmp_path / "out.mp4")
    assert np.linalg.norm(_head(tmp_path / "out.mp4").spread) > 2
    source = picture.astype(float).mean(2)
    half = (source + np.roll(source, 1, (0, 1))) / 2  # moved by half a pixel each way
    inner = cv2.erode(around, np.ones((5, 5), np.uint8)) > 0
    bound = np.mean((half - source)[inner] ** 2)
    with Clip(tmp_path / "out.mp4") as clip:
        for frame in clip.frames():
            assert np.mean((frame.mean(2) - source)[inner] ** 2) < bound


def test_shoulders_sway_with_the_head(natural: Path):
    """Pixels of the collar change in time; those of the picture's lower part do not."""
    with Clip(natural) as clip:
        frames = np.stack([frame.mean(2) for frame in clip.frames()][::5])
    points = detect_speaker(np.array(Image.open(samples.PORTRAIT)), FaceLandmarker(), None).points
    chin, height = points[152, 1], points[152, 1] - points[10, 1]
    change = frames.std(0).max(1)
    assert change[int(chin + 0.4 * height) : int(chin + 0.6 * height)].min() > 4
    assert change[int(chin + 2 * height) :].mean() < 1


def test_frames_follow_each_other_smoothly(natural: Path):
    """No frame stands out from its neighbours by the position of the whole face."""
    head = _head(natural)
    turns = np.array([b - a for a, b in pairwise(head.angles)])
    assert np.abs(np.diff(turns, axis=0)).max() < 1.0

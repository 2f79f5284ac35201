"""Clips show the person's own mouths, checked by pixels inside and around the lips."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.head_pose import LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER
from kolbo_demo.engine.landmarks import FaceLandmarker, Points, track_face
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter
from kolbo_demo.engine.voices import speak
from tests import samples
from tests.engine.lip_measurements import measure_lips

CLIP = samples.ASSETS / "clip.mp4"
FRAMES = 70
Picture = np.ndarray
Change = Callable[[int, Picture, Points], None]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Open vowels and closed lips, for as long as the clips last."""
    path = tmp_path_factory.mktemp("voice") / "words.wav"
    speak("Papa. Bob. Mama. Pop.", path)
    sound = load_voice(path, 16_000)[: FRAMES * 640]
    assert len(sound) > 40 * 640
    return samples.wav(path, sound[None], 16_000)


def frames_with_landmarks(video: Path) -> Iterator[tuple[Picture, Points]]:
    """Each frame with the landmarks in it."""
    with Clip(video) as clip:
        for rgb, face in track_face(
            clip.frames(min(clip.frame_count, FRAMES)), FaceLandmarker(), None
        ):
            assert face
            yield rgb, face.points


def edited_clip(path: Path, change: Change) -> Path:
    """The sample clip, each frame changed."""
    with VideoWriter(path, 512, 512, 25, samples.SPEECH, FRAMES / 25) as writer:
        for index, (rgb, points) in enumerate(frames_with_landmarks(CLIP)):
            change(index, rgb, points)
            writer.write(rgb)
    return path


def region(rgb: Picture, ring: np.ndarray) -> np.ndarray:
    mask = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(ring).astype(np.int32)], 1)
    return mask > 0


def mark(_index: int, rgb: Picture, points: Points) -> None:
    """A green tongue wherever the mouth is open."""
    upper, lower = points[list(UPPER_INNER[2:9]), :2], points[list(LOWER_INNER[2:9]), :2]
    if (lower - upper)[:, 1].max() > 3:
        rgb[region(rgb, np.concatenate([0.4 * upper + 0.6 * lower, lower[::-1]]))] = 20, 170, 60


def green(rgb: Picture) -> int:
    r, g, b = rgb.astype(int)[100:240, 150:300].transpose(2, 0, 1)
    return int(((g > r + 25) & (g > b + 25)).sum())


@pytest.fixture(scope="module")
def green_lips_clips(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clip with a green mouth, and its render."""
    folder = tmp_path_factory.mktemp("marked")
    source = edited_clip(folder / "source.mp4", mark)
    render(source, voice, folder / "out.mp4")
    return source, folder / "out.mp4"


def test_open_mouths_come_from_the_clip(green_lips_clips: tuple[Path, Path]):
    source, out = green_lips_clips
    opening = measure_lips(out).aperture
    opening = opening - np.percentile(opening, 5)
    shown = np.array([green(rgb) for rgb, _ in frames_with_landmarks(out)])
    was = np.array([green(rgb) for rgb, _ in frames_with_landmarks(source)])[: len(shown)]
    wide, shut = opening > 0.6 * opening.max(), opening < 0.1 * opening.max()
    assert (was[wide] < 10).sum() >= 3, "some are open where the clip's own are closed"
    assert (was[shut] > 30).sum() >= 3, "and some closed where they are open"
    assert (shown[wide] > 30).mean() > 0.8
    assert (shown[shut] < 12).mean() > 0.9


def test_exemplars_do_not_flicker(voice: Path, tmp_path: Path):
    """If lips change colour in every frame of the clip, still lips keep one colour, and moving lips
    do not change it in every frame."""

    def paint(index: int, rgb: Picture, points: Points) -> None:
        if index % 6 < 3:
            mouth = region(rgb, points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2])
            rgb[mouth] = (rgb[mouth] * (0.6, 0.9, 1.0)).astype(np.uint8)

    source, out = edited_clip(tmp_path / "source.mp4", paint), tmp_path / "out.mp4"
    render(source, voice, out)
    blue = []
    for rgb, points in frames_with_landmarks(out):
        whole = region(rgb, points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2])
        r, _, b = rgb[whole].mean(0)
        blue.append(b / r)
    steps = np.abs(np.diff(blue)) > 0.12
    still = np.abs(np.diff(opening := measure_lips(out).aperture)) < 0.03 * opening.max()
    assert still.sum() > 20
    assert steps[still].sum() <= 2
    assert steps.mean() < 0.2


def test_exemplars_match_the_light_of_the_frame(voice: Path, tmp_path: Path):
    def darken(index: int, rgb: Picture, _points: Points) -> None:
        if index >= FRAMES // 2:
            rgb[:] = (rgb * 0.55).astype(np.uint8)

    def likeness(video: Path) -> np.ndarray:
        """Brightness of the lips relative to the skin around them."""
        out = []
        for rgb, points in frames_with_landmarks(video):
            whole = region(rgb, points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2])
            inner = region(rgb, points[[*UPPER_INNER, *LOWER_INNER[::-1]], :2])
            skin = rgb[region(rgb, points[[205, 50, 187], :2])]
            out.append(rgb[whole & ~inner].mean() / skin.mean())
        return np.array(out)

    source = edited_clip(tmp_path / "source.mp4", darken)
    render(source, voice, tmp_path / "out.mp4")
    ratio = likeness(tmp_path / "out.mp4")
    bright, dark = ratio[: FRAMES // 2 - 2], ratio[FRAMES // 2 + 2 :]
    assert np.median(dark) == pytest.approx(np.median(bright), rel=0.08)
    assert np.ptp(np.percentile(ratio, [5, 95])) < 0.3


def test_occluded_mouths_are_no_exemplars(voice: Path, tmp_path: Path):
    hidden = range(20, 32)

    def cover(index: int, rgb: Picture, points: Points) -> None:
        if index in hidden:
            x, y = points[[13, 14], :2].mean(0).astype(int)
            cv2.rectangle(rgb, (x - 22, y - 12), (x + 22, y + 40), (140, 150, 250), -1)

    source = edited_clip(tmp_path / "source.mp4", cover)
    render(source, voice, tmp_path / "out.mp4")
    with Clip(tmp_path / "out.mp4") as clip:
        for index, rgb in enumerate(clip.frames()):
            if not hidden.start - 4 <= index < hidden.stop + 4:
                r, _, b = rgb.astype(int)[120:240, 170:280].transpose(2, 0, 1)
                assert (b > r + 20).sum() == 0, f"frame {index}"

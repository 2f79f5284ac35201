"""Prompts: parsing, and their effect on the video."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine.landmarks import FaceLandmarker, track_face
from kolbo_demo.engine.prompt import PromptStyle
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.voices import speak
from kolbo_demo.options import Options
from tests import samples

PORTRAIT = samples.SPEECH.parent / "portrait.jpg"
FOREHEAD, LID, LOW_LID, CORNERS = 10, 159, 145, [61, 291]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (None, ""),
        ("", ""),
        (" \n", ""),
        ("a warm smile", "smiling"),
        ("Subtle, still head, no blinking.", "subtle lips, still head, no blinking"),
        ("Please keep her head still and don't blink", "still head, no blinking"),
        ("whispering; very expressive", "exaggerated lips (not used: whispering)"),
        ("Exaggerated mouth movements with a broad smile", "exaggerated lips, smiling"),
        ("don\u2019t exaggerate the lips", "natural lips"),
        ("not subtle", "natural lips"),
        ("no smile", "neutral face"),
        ("He sings, energetically", "singing, lively head"),
        ("slight head movement", "calm head"),
        ("She looks straight into the camera", "eye contact"),
        ("keep eye contact, no blinking", "eye contact, no blinking"),
        ("clear articulation", "expressive lips"),
        ("smiling, cinematic lighting", "smiling (not used: cinematic lighting)"),
        ("a dragon", "nothing of the prompt (not used: dragon)"),
        ("subtle, then exaggerated", "exaggerated lips (not used: subtle lips)"),
        ("\u05d7\u05d9\u05d5\u05da", "nothing of the prompt (not used: \u05d7\u05d9\u05d5\u05da)"),
        ("blinks smilingly", "nothing of the prompt (not used: blinks smilingly)"),
    ],
)
def test_summary_lists_rules_and_unused_phrases(prompt: str | None, told: str):
    assert PromptStyle.parse(prompt).summary == told


def test_head_and_eye_rules_are_unused_for_clips():
    style = PromptStyle.parse("still head, smiling", clip=True)
    assert style.summary == "smiling (not used: still head (a clip keeps its own))"
    assert style.head == 1


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    speak("Bob and Papa go far. We map it.", path)
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait's head and shoulders, large in the picture."""
    path = tmp_path_factory.mktemp("picture") / "head.png"
    Image.open(PORTRAIT).crop((100, 20, 360, 280)).save(path)
    return path


def rendered_landmarks(picture: Path, voice: Path, prompt: str | None, out: Path) -> np.ndarray:
    """Landmarks (frames, 478, 2) of a render with a prompt, in eye distances."""
    render(picture, voice, out, Options(prompt=prompt))
    with Clip(out) as clip:
        faces = [face for _, face in track_face(clip.frames(), FaceLandmarker(), None)]
    points = np.array([face.points[:, :2] for face in faces if face])
    assert len(points) == len(faces)
    return points / np.linalg.norm(points[0, 33] - points[0, 263])


@pytest.fixture(scope="module")
def default_landmarks(
    picture: Path, voice: Path, tmp_path_factory: pytest.TempPathFactory
) -> np.ndarray:
    return rendered_landmarks(
        picture, voice, None, tmp_path_factory.mktemp("default_landmarks") / "out.mp4"
    )


def openings(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, 13] - points[:, 14], axis=1)


def test_lip_amplitude_follows_the_prompt(
    picture: Path, voice: Path, default_landmarks: np.ndarray, tmp_path: Path
):
    large = openings(rendered_landmarks(picture, voice, "exaggerated", tmp_path / "large.mp4"))
    small = openings(rendered_landmarks(picture, voice, "whispering", tmp_path / "small.mp4"))
    plain = openings(default_landmarks)
    open_frames = plain > np.percentile(plain, 80)
    assert large[open_frames].mean() > 1.15 * plain[open_frames].mean()
    assert small[open_frames].mean() < 0.75 * plain[open_frames].mean()
    closed = plain < 0.006
    assert closed.any()
    assert large[closed].max() < 0.05, "closures stay closed"


def test_still_head_and_open_eyes(
    picture: Path, voice: Path, default_landmarks: np.ndarray, tmp_path: Path
):
    told = rendered_landmarks(picture, voice, "still head, no blinking", tmp_path / "out.mp4")
    assert told[:, FOREHEAD, 0].std() < 0.25 * default_landmarks[:, FOREHEAD, 0].std()
    lids = np.linalg.norm(told[:, LID] - told[:, LOW_LID], axis=1)
    blinked = np.linalg.norm(default_landmarks[:, LID] - default_landmarks[:, LOW_LID], axis=1)
    assert lids.min() > 0.85 * np.median(lids)
    assert blinked.min() < 0.6 * np.median(blinked)


def test_smile_and_neutral_face_move_the_corners(
    picture: Path, voice: Path, default_landmarks: np.ndarray, tmp_path: Path
):
    def corners(points: np.ndarray) -> float:
        """Mean height of the mouth corners below the nose."""
        return float((points[:, CORNERS, 1].mean(axis=1) - points[:, 2, 1]).mean())

    smiling = corners(rendered_landmarks(picture, voice, "smiling", tmp_path / "smile.mp4"))
    neutral = corners(rendered_landmarks(picture, voice, "neutral face", tmp_path / "neutral.mp4"))
    assert smiling < corners(default_landmarks) - 0.02
    assert neutral > corners(default_landmarks) + 0.005

"""Complete renders: lips, faces, lengths, formats, progress and errors."""

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine import Cancelled
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.landmarks import FaceLandmarker, track_face
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter
from kolbo_demo.engine.voices import speak
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options
from tests import samples
from tests.engine.lip_measurements import LipMeasurements, measure_lips
from tests.engine.videos import psnr

ASSETS = samples.SPEECH.parent
PORTRAIT, CLIP, SPEECH = ASSETS / "portrait.jpg", ASSETS / "clip.mp4", samples.SPEECH


@pytest.fixture(scope="module")
def syllables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words with open vowels after closed lips, the last also with a closure inside, separated by
    silence."""
    path = tmp_path_factory.mktemp("voice") / "syllables.wav"
    speak("Bob.\nPop.\nMom.\nBob.\nPapa.", path)
    return path


@pytest.fixture(scope="module", params=["still", "clip"])
def spoken(
    request: pytest.FixtureRequest, syllables: Path, tmp_path_factory: pytest.TempPathFactory
) -> LipMeasurements:
    """Lips of renders of the syllables, on the portrait and on the clip."""
    out = tmp_path_factory.mktemp("spoken") / "out.mp4"
    render(PORTRAIT if request.param == "still" else CLIP, syllables, out)
    return measure_lips(out)


@pytest.fixture
def short_voice(tmp_path: Path) -> Path:
    return samples.wav(tmp_path / "short.wav", samples.chirps(0.4, 16_000), 16_000)


def words(level: np.ndarray) -> list[tuple[int, int]]:
    """First and last frame of each stretch of sound, bridging gaps of up to 120 ms."""
    loud = np.flatnonzero(level > level.max() - 30)
    edges = np.flatnonzero(np.diff(loud) > 3)
    starts, ends = [0, *(edges + 1)], [*edges, len(loud) - 1]
    return [(int(loud[a]), int(loud[b])) for a, b in zip(starts, ends, strict=True)]


def test_lips_open_on_open_vowels_close_on_p_b_m_and_rest_in_silence(spoken: LipMeasurements):
    spans = words(spoken.level)
    assert len(spans) == 5
    opening = spoken.aperture - np.median(spoken.aperture[:5])
    widest = opening.max()
    for first, last in spans:
        vowel = first + int(opening[first : last + 1].argmax())
        assert opening[vowel] > 0.35 * widest, "the vowel opens the mouth"
        assert opening[max(first - 3, 0) : vowel].min() < 0.15 * widest, (
            "after p, b, m have closed it"
        )
    first, last = spans[-1]
    inside = slice(first + 2, last - 2)
    faintest = inside.start + int(spoken.level[inside].argmin())
    assert opening[faintest - 1 : faintest + 2].min() < 0.15 * widest, "papa: the p inside"
    for (_, end), (start, _) in pairwise(spans):
        pause = opening[end + 6 : start - 5]
        assert len(pause)
        assert pause.max() < 0.15 * widest, "lips rest in silence"


def test_lips_are_in_sync(spoken: LipMeasurements):
    """Opening and loudness of these words agree best when neither is moved, to one frame."""
    level = np.clip(spoken.level - spoken.level.max() + 30, 0, None)
    count = len(level)
    likeness = {
        lag: np.corrcoef(
            spoken.aperture[max(0, lag) : count + min(0, lag)],
            level[max(0, -lag) : count - max(0, lag)],
        )[0, 1]
        for lag in range(-6, 7)
    }
    best = max(likeness, key=lambda lag: likeness[lag])
    assert abs(best) <= 1
    assert likeness[best] > 0.6


def test_still_moves_and_its_background_does_not(tmp_path: Path):
    out = tmp_path / "out.mp4"
    made = render(PORTRAIT, SPEECH, out)
    assert (made.width, made.height, made.fps, made.skipped) == (512, 512, 25.0, 0)
    assert made.frames == 145
    with Clip(out) as clip:
        frames = list(clip.frames())
    source = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    assert len(frames) == made.frames
    assert psnr(frames[70][:, :40], source[:, :40]) > 38, "the picture's edge is unchanged"
    assert psnr(frames[70][300:], source[300:]) > 34, "the body is unchanged"
    eyes = np.s_[95:125, 195:255]  # blinks and head motion change the eyes' region over time
    assert np.abs(frames[10][eyes].astype(int) - frames[100][eyes]).mean() > 1


def test_clip_is_unchanged_outside_the_lower_face(tmp_path: Path):
    out = tmp_path / "out.mp4"
    made = render(CLIP, SPEECH, out)
    with Clip(CLIP) as clip, Clip(out) as result:
        assert (result.width, result.height, result.fps) == (clip.width, clip.height, clip.fps)
        assert result.frame_count == made.frames == 145
        pairs = list(zip(clip.frames(40), result.frames(40), strict=True))
    face = np.s_[115:235, 170:280]
    for before, after in pairs[::8]:
        outside_before, outside_after = before.copy(), after.copy()
        outside_before[face] = outside_after[face] = 0
        assert psnr(outside_before, outside_after) > 40
    changed = [np.abs(a[face].astype(int) - b[face]).mean() for a, b in pairs]
    assert max(changed) > 2, "the mouth has changed"


@pytest.mark.parametrize("source", [PORTRAIT, CLIP], ids=["still", "clip"])
def test_cancelled_render_leaves_no_file(tmp_path: Path, source: Path):
    started = time.monotonic()
    asked: list[float] = []

    def cancelled() -> bool:
        if not asked and time.monotonic() - started > 0.8:
            asked.append(time.monotonic())
        return bool(asked)

    with pytest.raises(Cancelled):
        render(source, samples.recording(tmp_path / "long.wav", 60), tmp_path / "out.mp4",
               should_stop=cancelled)  # fmt: skip
    assert time.monotonic() - asked[0] < 4  # a busy machine; the whole takes tens of seconds
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.parametrize("frame", [*range(5, 13), *range(70, 78)])
def test_cancelling_while_the_next_frame_is_decoded(tmp_path: Path, frame: int):
    """During inspection of the clip, and during rendering."""
    done = 0

    def on_progress(now: int, _total: int) -> None:
        nonlocal done
        done = now

    with pytest.raises(Cancelled):
        render(CLIP, SPEECH, tmp_path / "out.mp4", on_progress=on_progress,
               should_stop=lambda: done >= frame)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def two_faces(path: Path, suffix: str) -> Path:
    """The portrait twice in one picture or clip, the right one smaller."""
    left = Image.open(PORTRAIT).convert("RGB").crop((96, 0, 352, 256))
    right = left.resize((200, 200))
    picture = Image.new("RGB", (512, 256), "grey")
    picture.paste(left, (0, 0))
    picture.paste(right, (300, 20))
    if suffix == "png":
        picture.save(path)
    else:
        with VideoWriter(path, 512, 256, 25, SPEECH, 0.4) as writer:
            for _ in range(writer.frame_count):
                writer.write(np.asarray(picture))
    return path


@pytest.mark.parametrize("suffix", ["png", "mp4"])
@pytest.mark.parametrize(("point", "speaks"), [(None, 0), ((0.2, 0.3), 0), ((0.8, 0.4), 1)])
def test_the_face_nearest_the_point_speaks(tmp_path: Path, syllables: Path, suffix, point, speaks):
    source = two_faces(tmp_path / f"two.{suffix}", suffix)
    voice = tmp_path / "one.wav"
    cut_voice(syllables, voice, 0.2, 1.0)
    render(source, voice, tmp_path / "out.mp4", Options(face=point))
    moved = [
        np.ptp(measure_lips(tmp_path / "out.mp4", at).aperture)
        for at in ((0.25, 0.4), (0.78, 0.45))
    ]
    assert moved[speaks] > 0.04
    assert moved[1 - speaks] < 0.5 * moved[speaks]


def cut_voice(source: Path, path: Path, start: float, end: float) -> Path:
    sound = load_voice(source, 16_000)[int(start * 16_000) : int(end * 16_000)]
    return samples.wav(path, sound[None], 16_000)


def test_short_clip_is_looped_and_long_clip_is_cut(tmp_path: Path, syllables: Path):
    short, out = tmp_path / "short.mp4", tmp_path / "out.mp4"
    with Clip(CLIP) as clip, VideoWriter(short, 512, 512, 25, SPEECH, 0.4) as writer:
        for frame in clip.frames(writer.frame_count):
            writer.write(frame)
    voice = cut_voice(syllables, tmp_path / "voice.wav", 0.2, 1.2)
    assert render(short, voice, out).frames == 25
    made = render(CLIP, cut_voice(syllables, tmp_path / "brief.wav", 0.3, 0.6), out)
    assert made.frames == 8
    assert made.duration == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_silence_and_very_short_voices_show_lips_at_rest(tmp_path: Path, seconds: float):
    voice = samples.silent_wav(tmp_path / "silent.wav", seconds)
    made = render(PORTRAIT, voice, tmp_path / "out.mp4")
    assert made.frames == max(round(seconds * 25 + 0.499), 1)
    assert np.ptp(measure_lips(tmp_path / "out.mp4").aperture) < 0.02


def test_rotated_picture_is_rendered_upright(tmp_path: Path, short_voice: Path):
    picture, exif = Image.open(PORTRAIT).crop((96, 0, 352, 192)), Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "source.jpg", exif=exif)
    made = render(tmp_path / "source.jpg", short_voice, tmp_path / "out.mp4")
    assert (made.width, made.height) == (256, 192)
    with Clip(tmp_path / "out.mp4") as clip:
        face = next(track_face(clip.frames(), FaceLandmarker(), None))[1]
    assert face
    assert face.points[152, 1] > face.points[10, 1] + 50, "chin below forehead"


def test_odd_sides_become_even(tmp_path: Path, short_voice: Path):
    Image.open(PORTRAIT).convert("RGB").crop((90, 0, 351, 257)).save(tmp_path / "odd.png")
    made = render(tmp_path / "odd.png", short_voice, tmp_path / "out.mp4")
    assert (made.width, made.height) == (260, 256)


def test_large_still_is_scaled_down(tmp_path: Path, short_voice: Path):
    Image.open(PORTRAIT).convert("RGB").resize((3000, 3000)).save(tmp_path / "large.jpg")
    made = render(tmp_path / "large.jpg", short_voice, tmp_path / "out.mp4")
    assert made.width == made.height < 1500


@pytest.mark.parametrize("kind", ["picture", "clip"])
def test_source_without_face_is_an_error(tmp_path: Path, short_voice: Path, kind):
    noise = np.random.default_rng(5).integers(0, 255, (200, 200, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5)
    source = tmp_path / ("source.png" if kind == "picture" else "source.mp4")
    if kind == "picture":
        Image.fromarray(blurred).save(source)
    else:
        with VideoWriter(source, 200, 200, 25, SPEECH, 0.2) as writer:
            for _ in range(writer.frame_count):
                writer.write(np.asarray(blurred, np.uint8))
    with pytest.raises(MediaError, match=f"No face was found in the {kind}"):
        render(source, short_voice, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".*"))


def test_memory_is_constant_for_any_length(tmp_path: Path):
    """A clip that is looped eight times needs the peak memory of one that is played once."""
    program = (
        "import resource, sys; from pathlib import Path;"
        "from kolbo_demo.engine.render import render; from tests import samples;"
        "a, b = Path(sys.argv[1]), Path(sys.argv[2]);"
        "render(a, samples.recording(b / 'a.wav', 1), b / 'a.mp4');"
        "one = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "render(a, samples.recording(b / 'b.wav', 8), b / 'b.mp4');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - one)"
    )
    source = tmp_path / "small.mp4"
    with Clip(CLIP) as clip, VideoWriter(source, 256, 256, 25, SPEECH, 1.0) as writer:
        for frame in clip.frames(writer.frame_count):
            writer.write(np.ascontiguousarray(frame[:256, 96:352]))
    ran = subprocess.run(
        [sys.executable, "-c", program, str(source), str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=ASSETS.parent,
    )  # fmt: skip
    assert int(ran.stdout) < 60_000, "kilobytes more for seven seconds more"

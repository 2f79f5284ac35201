"""What is found out about files before anything is sent, and how they are cut."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.process_stats import process_tree
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media import probe
from kolbo_demo.media.probe import MediaError
from kolbo_demo.preflight import Analyst, StoppedError
from kolbo_demo.preflight.trim import fitting
from tests import samples
from tests.engine.synthetic_people import talking, turned
from tests.hostile import bounds

FACE = (0.44, 0.24)
"""The middle of the face in the bundled portrait, 0-1."""


@pytest.fixture(scope="module")
def analyst() -> Iterator[Analyst]:
    found = Analyst()
    yield found
    found.close()


def portrait() -> np.ndarray:
    return np.asarray(Image.open(samples.PORTRAIT).convert("RGB").resize((256, 256)))


def moving(path: Path) -> Path:
    """Two seconds nobody, then the portrait wandering to the right for three."""
    empty = np.full((256, 384, 3), 90, np.uint8)
    pictures = [empty] * 30
    for step in range(45):
        picture = empty.copy()
        left = 128 * step // 45
        picture[:, left : left + 256] = portrait()
        pictures.append(picture)
    return samples.video(path, fps=15, pictures=pictures)


def test_faces_are_told_upright(analyst: Analyst, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(samples.PORTRAIT) as whole:
        whole.transpose(Image.Transpose.ROTATE_90).save(turned, exif=tags, quality=92)
    pixels = portrait()
    lying = np.ascontiguousarray(np.rot90(pixels, -1))
    phone = samples.video(tmp_path / "phone.mp4", pictures=[lying] * 3, turn=90)
    for path in (samples.PORTRAIT, turned, phone):
        _, picture = analyst.source(path)
        [face] = picture.faces or []
        assert face.point == pytest.approx(FACE, abs=0.03), path.name
        assert abs(face.yaw) < 15


def test_several_faces_are_numbered_from_left_to_right(analyst: Analyst, tmp_path: Path) -> None:
    path = tmp_path / "three.png"
    Image.fromarray(np.hstack([portrait()] * 3)).save(path)
    source, picture = analyst.source(path)
    faces = picture.faces or []
    across = [face.point[0] for face in faces]
    assert across == pytest.approx([(n + FACE[0]) / 3 for n in range(3)], abs=0.02)
    assert all(face.small for face in faces)
    assert (source.width, source.height, source.duration) == (768, 256, None)


def test_a_clip_s_empty_stretch_has_its_times(analyst: Analyst, tmp_path: Path) -> None:
    clip = moving(tmp_path / "moving.mp4")
    source, picture = analyst.source(clip)
    assert picture.faces == []
    assert (source.fps, source.has_audio, source.variable) == (15.0, False, False)
    stretches, until = analyst.stretches(clip)
    assert until == pytest.approx(5.0)
    [stretch] = stretches
    assert stretch.start == 0
    assert stretch.end == pytest.approx(2.0, abs=0.3)
    assert not stretch.side


def test_a_head_that_looks_to_the_side_is_told(analyst: Analyst, tmp_path: Path) -> None:
    """In a picture, and in a clip with its times."""
    [shot] = talking(1)
    heads = {yaw: turned(shot, yaw, 0)[0] for yaw in (-60, -25, 0, 25)}
    for yaw, head in heads.items():
        path = tmp_path / f"{yaw}.png"
        Image.fromarray(head).save(path)
        [face] = analyst.source(path)[1].faces or []
        assert face.sideways == (abs(yaw) > 40)
    pictures = [heads[0]] * 10 + [heads[-60]] * 15 + [heads[25]] * 5
    clip = samples.video(tmp_path / "turning.mp4", fps=10, pictures=pictures, matrix=1)
    [stretch], _ = analyst.stretches(clip)
    assert stretch.side
    assert (stretch.start, stretch.end) == pytest.approx((1.0, 2.5), abs=0.3)


def test_variable_frame_rates_are_named(analyst: Analyst, tmp_path: Path) -> None:
    times = [n / 30 for n in range(20)] + [20 / 30 + n / 10 for n in range(20)]
    assert analyst.source(samples.video(tmp_path / "v.mp4", times=times))[0].variable


def test_a_face_is_followed_to_where_the_clip_begins(analyst: Analyst, tmp_path: Path) -> None:
    clip = moving(tmp_path / "moving.mp4")
    [there] = analyst.picture(clip, 4.8).faces or []
    [here] = analyst.picture(clip, 2.5).faces or []
    assert there.point[0] - here.point[0] > 0.15
    back = analyst.followed(clip, there.point, 4.8, 2.5)
    assert back == pytest.approx(here.point, abs=0.03)
    on = analyst.followed(clip, here.point, 2.5, 4.8)
    assert on == pytest.approx(there.point, abs=0.03)


def test_speech_is_told_from_other_sounds(analyst: Analyst, tmp_path: Path) -> None:
    assert analyst.voice(samples.SPEECH).speech
    rate, seconds = 16000, np.arange(3 * 16000) / 16000
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * rate)
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds) * (np.sin(2 * np.pi * 3 * seconds) > 0)
    for name, sound in (("noise", noise), ("tone", tone), ("nothing", 0 * tone)):
        path = samples.wav(tmp_path / f"{name}.wav", sound[None].astype(np.float32), rate)
        assert analyst.voice(path).speech is False, name


def test_what_is_no_medium_is_refused(analyst: Analyst, tmp_path: Path) -> None:
    fake = tmp_path / "a.mp4"
    fake.write_bytes(b"\0\0\0\x18ftypmp42" + b"\xff" * 400)
    for look in (analyst.source, analyst.voice, analyst.stretches):
        with pytest.raises(MediaError):
            look(fake)
    assert analyst.source(samples.PORTRAIT)[1].faces  # and the next visitor is served


def test_only_modes_that_mean_something_are_offered() -> None:
    def names(clip: float | None, voice: float | None) -> list[str]:
        return [mode.name for mode in fitting(clip, voice)]

    assert names(None, 3) == names(3, None) == names(3, 3.01) == []
    assert names(2, 5) == ["cut_off", "loop", "bounce", "remap"]
    assert names(5, 2) == ["cut_off", "silence", "remap"]
    assert names(1, 5) == ["cut_off", "loop", "bounce"]  # five times slower is a slide show


@pytest.mark.parametrize(
    ("mode", "voice", "numbers"),
    [
        ("cut_off", 0.25, [4, 5, 6, 7, 8]),
        ("loop", 0.7, [4, 5, 6, 7, 8, 9, 10, 11, 4, 5, 6, 7, 8, 9]),
        ("bounce", 0.9, [4, 5, 6, 7, 8, 9, 10, 11, 10, 9, 8, 7, 6, 5, 4, 5, 6, 7]),
        ("remap", 0.2, [4, 6, 8, 10]),
        (None, 9.0, [4, 5, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_clips_are_made_to_last(
    analyst: Analyst, tmp_path: Path, mode: str | None, voice: float, numbers: list[int]
) -> None:
    clip = samples.video(tmp_path / "clip.mp4", frames=24, fps=20)
    output = tmp_path / "made.mp4"
    part = {"start": 0.2, "end": 0.6, "mode": mode, "voice": voice}
    analyst.make("cut_source", clip, output, lambda: True, **part)
    made = probe.inspect_source(output)
    assert made.duration == pytest.approx(len(numbers) / 20)
    with Clip(output) as shown:
        assert [samples.number_on(frame) for frame in shown.frames()] == numbers


def test_voices_are_made_to_last(analyst: Analyst, tmp_path: Path) -> None:
    for mode, clip, seconds in (("silence", 6.0, 6.0), ("cut_off", 2.0, 2.0), (None, 0, 4.0)):
        output = tmp_path / f"{mode}.wav"
        part = {"start": 1.0, "end": 5.0, "mode": mode, "clip": clip}
        analyst.make("cut_voice", samples.SPEECH, output, lambda: True, **part)
        assert probe.inspect_audio(output).duration == pytest.approx(seconds, abs=0.01)


def test_what_is_not_wanted_any_more_is_stopped(analyst: Analyst, tmp_path: Path) -> None:
    part = {"start": 0, "end": 5, "mode": "loop", "voice": 500.0}
    clip, output = samples.ASSETS / "clip.mp4", tmp_path / "x.mp4"
    with pytest.raises(StoppedError):
        analyst.make("cut_source", clip, output, lambda: False, **part)
    assert not list(tmp_path.iterdir())


def test_what_cuts_and_listens_is_bounded(analyst: Analyst, tmp_path: Path) -> None:
    part = {"start": 0, "end": 5, "mode": "loop", "voice": 500.0}
    seen: list[dict[str, str]] = []

    def look() -> bool:
        for pid in process_tree(os.getpid()):
            with contextlib.suppress(OSError):
                if b"kolbo_demo.preflight" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    seen.append(bounds(pid))
        return not any(found["Max address space"].isdecimal() for found in seen)

    with pytest.raises(StoppedError):
        analyst.make("cut_source", samples.ASSETS / "clip.mp4", tmp_path / "x.mp4", look, **part)
    bound = next(found for found in seen if found["Max address space"].isdecimal())
    assert int(bound["Max cpu time"]) < 3600
    assert bound["Max core file size"] == "0"

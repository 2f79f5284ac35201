"""Inspection of files before they are sent, and the limits of the child that opens them."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.process_stats import command_line, process_tree
from kolbo_demo.media.probe import MediaError
from kolbo_demo.preflight import CancelledError, Inspector
from tests import samples
from tests.engine.synthetic_people import talking, turned
from tests.hostile import bounds

FACE = (0.44, 0.24)
"""The middle of the face in the bundled portrait, 0-1."""


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


def test_faces_are_detected_in_the_upright_picture(inspector: Inspector, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(samples.PORTRAIT) as whole:
        whole.transpose(Image.Transpose.ROTATE_90).save(turned, exif=tags, quality=92)
    pixels = portrait()
    lying = np.ascontiguousarray(np.rot90(pixels, -1))
    phone = samples.video(tmp_path / "phone.mp4", pictures=[lying] * 3, turn=90)
    for path in (samples.PORTRAIT, turned, phone):
        _, picture = inspector.inspect_source(path)
        [face] = picture.faces or []
        assert face.point == pytest.approx(FACE, abs=0.03), path.name
        assert abs(face.yaw) < 15


def test_faces_are_ordered_from_left_to_right(inspector: Inspector, tmp_path: Path) -> None:
    path = tmp_path / "three.png"
    Image.fromarray(np.hstack([portrait()] * 3)).save(path)
    source, picture = inspector.inspect_source(path)
    faces = picture.faces or []
    across = [face.point[0] for face in faces]
    assert across == pytest.approx([(n + FACE[0]) / 3 for n in range(3)], abs=0.02)
    assert all(face.small for face in faces)
    assert (source.width, source.height, source.duration) == (768, 256, None)


def test_a_faceless_span_has_its_times(inspector: Inspector, tmp_path: Path) -> None:
    clip = moving(tmp_path / "moving.mp4")
    source, picture = inspector.inspect_source(clip)
    assert picture.faces == []
    assert (source.fps, source.has_audio, source.variable) == (15.0, False, False)
    stretches, until = inspector.find_faceless_spans(clip)
    assert until == pytest.approx(5.0)
    [stretch] = stretches
    assert stretch.start == 0
    assert stretch.end == pytest.approx(2.0, abs=0.3)
    assert not stretch.side


def test_a_head_turned_to_the_side_is_reported(inspector: Inspector, tmp_path: Path) -> None:
    """In a picture, and in a clip with its times."""
    [shot] = talking(1)
    heads = {yaw: turned(shot, yaw, 0)[0] for yaw in (-60, -25, 0, 25)}
    for yaw, head in heads.items():
        path = tmp_path / f"{yaw}.png"
        Image.fromarray(head).save(path)
        [face] = inspector.inspect_source(path)[1].faces or []
        assert face.sideways == (abs(yaw) > 40)
    pictures = [heads[0]] * 10 + [heads[-60]] * 15 + [heads[25]] * 5
    clip = samples.video(tmp_path / "turning.mp4", fps=10, pictures=pictures, matrix=1)
    [stretch], _ = inspector.find_faceless_spans(clip)
    assert stretch.side
    assert (stretch.start, stretch.end) == pytest.approx((1.0, 2.5), abs=0.3)


def test_variable_frame_rates_are_reported(inspector: Inspector, tmp_path: Path) -> None:
    times = [n / 30 for n in range(20)] + [20 / 30 + n / 10 for n in range(20)]
    assert inspector.inspect_source(samples.video(tmp_path / "v.mp4", times=times))[0].variable


def test_a_face_is_tracked_to_another_time(inspector: Inspector, tmp_path: Path) -> None:
    clip = moving(tmp_path / "moving.mp4")
    [there] = inspector.inspect_frame(clip, 4.8).faces or []
    [here] = inspector.inspect_frame(clip, 2.5).faces or []
    assert there.point[0] - here.point[0] > 0.15
    back = inspector.track_face(clip, there.point, 4.8, 2.5)
    assert back == pytest.approx(here.point, abs=0.03)
    on = inspector.track_face(clip, here.point, 2.5, 4.8)
    assert on == pytest.approx(there.point, abs=0.03)


def test_speech_is_distinguished_from_other_sounds(inspector: Inspector, tmp_path: Path) -> None:
    assert inspector.inspect_voice(samples.SPEECH).speech
    rate, seconds = 16000, np.arange(3 * 16000) / 16000
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * rate)
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds) * (np.sin(2 * np.pi * 3 * seconds) > 0)
    for name, sound in (("noise", noise), ("tone", tone), ("nothing", 0 * tone)):
        path = samples.wav(tmp_path / f"{name}.wav", sound[None].astype(np.float32), rate)
        assert inspector.inspect_voice(path).speech is False, name


def test_a_file_that_is_no_medium_is_refused(inspector: Inspector, tmp_path: Path) -> None:
    fake = tmp_path / "a.mp4"
    fake.write_bytes(b"\0\0\0\x18ftypmp42" + b"\xff" * 400)
    for look in (inspector.inspect_source, inspector.inspect_voice, inspector.find_faceless_spans):
        with pytest.raises(MediaError):
            look(fake)
    assert inspector.inspect_source(samples.PORTRAIT)[1].faces  # and the next visitor is served


def test_a_cancelled_edit_is_stopped(inspector: Inspector, tmp_path: Path) -> None:
    part = {"start": 0, "end": 5, "mode": "loop", "voice": 500.0}
    clip, output = samples.ASSETS / "clip.mp4", tmp_path / "x.mp4"
    with pytest.raises(CancelledError):
        inspector.run_edit("cut_source", clip, output, lambda: False, **part)
    assert not list(tmp_path.iterdir())


def test_the_child_has_resource_limits(inspector: Inspector, tmp_path: Path) -> None:
    part = {"start": 0, "end": 5, "mode": "loop", "voice": 500.0}
    seen: list[dict[str, str]] = []

    def look() -> bool:
        for pid in process_tree(os.getpid()):
            if b"kolbo_demo.preflight" in command_line(pid):
                with contextlib.suppress(OSError):  # it has just ended
                    seen.append(bounds(pid))
        return not any(found["Max address space"].isdecimal() for found in seen)

    with pytest.raises(CancelledError):
        inspector.run_edit(
            "cut_source", samples.ASSETS / "clip.mp4", tmp_path / "x.mp4", look, **part
        )
    bound = next(found for found in seen if found["Max address space"].isdecimal())
    assert int(bound["Max cpu time"]) < 3600
    assert bound["Max core file size"] == "0"

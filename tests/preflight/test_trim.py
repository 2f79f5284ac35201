"""Trimming of clips and voices, and the modes that make their lengths equal."""

from pathlib import Path

import pytest

from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media import probe
from kolbo_demo.preflight import Inspector
from kolbo_demo.preflight.trim import applicable_modes
from tests import samples


def test_only_modes_that_apply_are_offered() -> None:
    def names(clip: float | None, voice: float | None) -> list[str]:
        return [mode.name for mode in applicable_modes(clip, voice)]

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
def test_clips_are_fitted_to_a_voice(
    inspector: Inspector, tmp_path: Path, mode: str | None, voice: float, numbers: list[int]
) -> None:
    clip = samples.video(tmp_path / "clip.mp4", frames=24, fps=20)
    output = tmp_path / "made.mp4"
    part = {"start": 0.2, "end": 0.6, "mode": mode, "voice": voice}
    inspector.run_edit("cut_source", clip, output, lambda: True, **part)
    made = probe.inspect_source(output)
    assert made.duration == pytest.approx(len(numbers) / 20)
    with Clip(output) as shown:
        assert [samples.number_on(frame) for frame in shown.frames()] == numbers


def test_voices_are_fitted_to_a_clip(inspector: Inspector, tmp_path: Path) -> None:
    for mode, clip, seconds in (("silence", 6.0, 6.0), ("cut_off", 2.0, 2.0), (None, 0, 4.0)):
        output = tmp_path / f"{mode}.wav"
        part = {"start": 1.0, "end": 5.0, "mode": mode, "clip": clip}
        inspector.run_edit("cut_voice", samples.SPEECH, output, lambda: True, **part)
        assert probe.inspect_audio(output).duration == pytest.approx(seconds, abs=0.01)

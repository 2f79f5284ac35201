"""The judge, on the engine's render and on known degradations of it."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from benchmarks import degrade
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.render import render
from kolbo_demo.engine.speech_features import SAMPLE_RATE
from kolbo_demo.engine.sync_eval.audio_model import LipModel, extract_sound_features
from kolbo_demo.engine.sync_eval.judge import SyncReport, judge, judge_features
from kolbo_demo.engine.sync_eval.lip_motion import LipMotion, extract_lip_motion
from tests import samples

CLIP, FRAME_MS = samples.ASSETS / "clip.mp4", 40


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait, saying the sample sentence."""
    out = tmp_path_factory.mktemp("judged") / "rendered.mp4"
    render(samples.PORTRAIT, samples.SPEECH, out)
    return out


@pytest.fixture(scope="module")
def motion(rendered: Path) -> LipMotion:
    return extract_lip_motion(rendered)


def judge_sound(motion: LipMotion, sound: np.ndarray) -> SyncReport:
    return judge_features(motion, extract_sound_features(sound.astype(np.float32)), LipModel.load())


def voice() -> np.ndarray:
    return load_voice(samples.SPEECH, SAMPLE_RATE)


def test_a_rendered_portrait_is_in_step(rendered: Path):
    report = judge(rendered)
    assert report.verdict == "in step"
    assert report.in_step
    assert report.offset_ms is not None
    assert abs(report.offset_ms) <= FRAME_MS
    assert report.confidence > 0.8
    assert len(report.aperture) == len(report.width) == 145
    assert 0.4 < np.nanmedian(report.width) < 0.8, "parts of the eye distance"
    assert report.face == 1.0
    assert report.closures >= 6, "bring, portrait, move, mouth, every pop of both lips"
    assert report.closures_hit is not None
    assert report.closures_chance is not None
    assert report.closures_hit > 0.8 > report.closures_chance
    assert report.rounding is not None
    assert report.rounding > 0.7
    assert report.follows_loudness is not None
    assert report.follows_loudness < 0.8
    assert "the mouth is blurred" not in report.notes
    assert "aperture" not in report.summary()


@pytest.mark.parametrize("moved_ms", [-200, 200])
def test_a_shifted_sound_is_measured_to_within_a_frame(motion: LipMotion, moved_ms: int):
    straight = judge_sound(motion, voice())
    report = judge_sound(motion, degrade.shift_sound(voice(), moved_ms / 1000))
    assert straight.offset_ms is not None
    assert report.offset_ms is not None
    assert abs(report.offset_ms - straight.offset_ms + moved_ms) <= FRAME_MS
    word = "early" if moved_ms > 0 else "late"
    assert report.verdict == f"{abs(report.offset_ms)} ms {word}"


def test_time_stamps_of_the_file_are_respected(rendered: Path, motion: LipMotion, tmp_path: Path):
    """Sound that begins 0.3 s after the picture, by its time stamps alone, is late by 0.3 s."""
    late = tmp_path / "late.mp4"
    with av.open(str(rendered)) as source, av.open(str(late), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio":
                by = round(0.3 / packet.time_base)
                packet.pts, packet.dts = packet.pts + by, packet.dts + by
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    offset = judge(late).offset_ms
    straight = judge_sound(motion, voice()).offset_ms
    assert offset is not None
    assert straight is not None
    assert abs(offset - straight + 300) <= FRAME_MS


def test_another_sound_is_rejected(motion: LipMotion):
    report = judge_sound(motion, load_voice(CLIP, SAMPLE_RATE))
    assert report.verdict == "lips do not follow this sound"
    assert report.confidence < 0.5
    backwards = judge_sound(motion, voice()[::-1].copy())
    assert not backwards.in_step
    assert backwards.confidence < 0.5


def test_a_still_picture_is_recognised(tmp_path: Path):
    report = judge(degrade.freeze(CLIP, samples.SPEECH, tmp_path / "still.mp4"))
    assert report.verdict == "still picture"
    assert not report.in_step


def test_a_mouth_that_opens_with_loudness_is_recognised(tmp_path: Path):
    portrait = np.asarray(Image.open(samples.PORTRAIT).convert("RGB"))
    puppet = degrade.animate_by_loudness(portrait, samples.SPEECH, tmp_path / "puppet.mp4")
    assert judge(puppet).verdict == "mouth follows loudness only"


def test_a_blurred_mouth_is_noted_and_still_in_step(rendered: Path, tmp_path: Path):
    soft = judge(degrade.blur_mouth(rendered, samples.SPEECH, tmp_path / "soft.mp4"))
    assert "the mouth is blurred" in soft.notes
    assert soft.verdict == "in step"


@pytest.mark.parametrize("kind", ["silence", "noise", "tone"])
def test_sound_without_speech_is_not_judged(motion: LipMotion, kind: str):
    count = 5 * SAMPLE_RATE
    sound = {
        "silence": np.zeros(count),
        "noise": 0.1 * np.random.default_rng(0).standard_normal(count),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * np.arange(count) / SAMPLE_RATE),
    }[kind]
    report = judge_sound(motion, sound)
    assert report.verdict == "no speech found"
    assert report.offset_ms is None
    assert report.closures_hit is None


def test_a_video_without_a_face_is_reported(tmp_path: Path):
    report = judge(samples.video(tmp_path / "cards.mp4", 25, sound=1.0))
    assert report.verdict == "no face"
    assert report.face == 0.0


def test_a_silent_video_is_judged_by_its_picture(tmp_path: Path):
    picture = np.asarray(Image.open(samples.PORTRAIT).convert("RGB"))
    report = judge(samples.video(tmp_path / "film.mp4", pictures=[picture] * 10))
    assert (report.verdict, report.closures_hit) == ("still picture", None)


def test_frames_without_a_face_are_skipped(motion: LipMotion):
    lips = motion.lips.copy()
    lips[40:60] = np.nan
    report = judge_sound(LipMotion(motion.fps, lips, None, None, motion.displacement), voice())
    assert report.verdict == "in step"
    assert report.face == pytest.approx(125 / 145)
    assert np.isnan(report.aperture[40:60]).all()

"""Voices as samples."""

import numpy as np
import pytest

from kolbo_demo.engine import audio_io
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.media.probe import MediaError
from tests import samples
from tests.engine.videos import write_video


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_voice_is_mono_at_the_requested_rate(tmp_path, rate, channels):
    voice = load_voice(samples.recording(tmp_path / "v.wav", 0.8, rate, channels))
    assert voice.dtype == np.float32
    assert voice.ndim == 1
    assert len(voice) == pytest.approx(12800, abs=16)
    assert 0.02 < voice.std() < 0.5
    assert np.abs(voice).max() <= 1


def test_stereo_channels_are_mixed(tmp_path):
    sounds = samples.chirps(0.5, 16000, 2)
    mono = load_voice(samples.wav(tmp_path / "v.wav", sounds, 16000))
    assert np.corrcoef(mono, sounds.sum(0))[0, 1] > 0.999
    loud = samples.wav(tmp_path / "loud.wav", np.full((2, 8000), 0.9), 16000)
    assert load_voice(loud).max() == pytest.approx(0.9, abs=0.01)


def test_silent_and_very_short_voices(tmp_path):
    assert not load_voice(samples.silent_wav(tmp_path / "v.wav")).any()
    assert len(load_voice(samples.short_wav(tmp_path / "s.wav"))) == 800


def test_nan_samples_are_replaced(tmp_path):
    voice = samples.nan_wav(tmp_path / "v.wav")
    assert np.isfinite(load_voice(voice)).all()
    path = write_video(tmp_path / "out.mp4", [samples.card(0, 64, 64)], 25, voice, 0.5)
    assert np.isfinite(load_voice(path)).all()


def test_too_long_voice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_io, "MAX_VOICE_SECONDS", 1)
    with pytest.raises(MediaError, match="longer than"):
        load_voice(samples.SPEECH)


def test_file_without_sound_is_refused(tmp_path):
    for path in (samples.text(tmp_path / "v.mp3"), samples.video(tmp_path / "v.mp4")):
        with pytest.raises(MediaError, match=r"\.$"):
            load_voice(path)

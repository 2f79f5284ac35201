"""Learned mouth curves: the same in pieces and at any level, alive, closed where lips close."""

from pathlib import Path

import numpy as np
import pytest

from kolbo_demo.engine import EngineError, phoneme_model, speech_features
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.motion_model import WEIGHTS, motion
from kolbo_demo.engine.mouth_curves import BILABIALS, MouthCurves, mouth_curves
from kolbo_demo.engine.speech_features import Heard, hear
from kolbo_demo.engine.tts import speak
from tests import samples

FPS = 25.0


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return load_voice(samples.SPEECH, speech_features.RATE)


@pytest.fixture(scope="module")
def heard(voice: np.ndarray) -> Heard:
    return hear(voice)


def shown(heard: Heard, fps: float = FPS) -> MouthCurves:
    return mouth_curves(heard, fps, int(len(heard.level) * speech_features.HOP * fps))


def said(text: str, folder: Path) -> np.ndarray:
    speak(text, folder / "said.wav")
    return load_voice(folder / "said.wav", speech_features.RATE)


def test_the_recogniser_hears_what_hamas_own_library_hears(voice: np.ndarray):
    from hama import ASRModel

    theirs = ASRModel()
    spans = theirs.phoneme_spans(theirs.transcribe_waveform(voice, speech_features.RATE))
    ours = phoneme_model.recogniser()
    _, odds = ours.hear(ours.mels([voice]))
    emitted = [(at, symbol) for at, symbol in ours.emitted(odds) if symbol != "<wb>"]
    same = set(emitted) & {(span.start_frame, span.phoneme) for span in spans}
    assert len(spans) > 40
    assert len(same) > 0.95 * max(len(spans), len(emitted))


def test_another_recogniser_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    phoneme_model.recogniser.cache_clear()
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"HAMAPK\x02\x02\x01\x00\x00\x00nothing")
    with pytest.raises(EngineError, match="install hama"):
        phoneme_model.recogniser()
    phoneme_model.recogniser.cache_clear()


def test_a_long_voice_is_heard_in_pieces_as_it_is_whole(
    voice: np.ndarray, heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(speech_features, "CHUNK", 120)
    pieces = hear(voice)
    for name in motion().names:
        whole, cut = heard.curves[name], pieces.curves[name]
        assert whole.shape == cut.shape
        assert np.abs(whole - cut).max() < 0.8
        assert np.corrcoef(whole, cut)[0, 1] > 0.98
    assert [s.symbol for s in pieces.sounds[:10]] == [s.symbol for s in heard.sounds[:10]]


def test_loudness_and_a_little_noise_do_not_move_the_lips(voice: np.ndarray, heard: Heard):
    noise = 1e-3 * np.random.default_rng(3).standard_normal(len(voice)).astype(np.float32)
    for changed in (0.1 * voice, voice + noise):
        other = hear(np.asarray(changed, np.float32))
        assert np.corrcoef(other.curves["opening"], heard.curves["opening"])[0, 1] > 0.95


def test_lips_move_as_far_and_as_fast_as_people_move_them(heard: Heard):
    """Real people: the opening's spread 5 mm, the 95th percentile of its speed 140 mm/s; corners
    1.9 mm and 38 mm/s (means over speakers, fitting/figures.py)."""
    curves = shown(heard)
    speed = np.percentile(np.abs(np.diff(curves.aperture)) * FPS, 95)
    assert 2.5 < curves.aperture.std() < 7.5
    assert 80 < speed < 280
    assert 1.0 < curves.width.std() < 3.5
    assert curves.aperture.min() == 0
    assert curves.aperture.max() <= 20.5


def test_every_p_b_m_closes_the_lips_and_f_v_bring_them_to_the_teeth(tmp_path: Path):
    heard = hear(said("Papa made my baby a map. Five vans have a very fine view.", tmp_path))
    curves = shown(heard)
    closed = [s for s in heard.sounds if s.symbol in BILABIALS]
    assert len(closed) >= 7
    at = np.flatnonzero(curves.closure == 1)
    for sound in closed:
        frame = (sound.centre if sound.symbol == "m" else sound.start) * FPS
        nearest = at[np.abs(at - frame).argmin()]
        assert abs(nearest - frame) < 2.5
        assert curves.aperture[nearest] == 0
    bites = [int((s.centre - 0.05) * FPS) for s in heard.sounds if s.symbol in ("f", "v")]
    assert len(bites) >= 4
    assert np.median([curves.teeth[i - 1 : i + 2].max() for i in bites]) > 0.5
    assert np.median([curves.aperture[i - 1 : i + 2].min() for i in bites]) < 4


def test_rounded_sounds_narrow_the_mouth_and_push_it_forward(tmp_path: Path):
    heard = hear(
        said("Who knew you would choose two new blue shoes? See these three teas.", tmp_path)
    )
    curves = shown(heard)

    def at(symbols: str) -> list[int]:
        return [int((s.centre - 0.05) * FPS) for s in heard.sounds if s.symbol in symbols]

    rounded, spread = at("uwʊ"), at("iɪ")
    assert len(rounded) > 4
    assert len(spread) > 2
    assert np.median(curves.width[rounded]) < np.median(curves.width[spread]) - 2
    assert np.median(curves.protrusion[rounded]) > np.median(curves.protrusion[spread]) + 0.3


def test_lips_rest_where_nobody_speaks(voice: np.ndarray):
    gap = np.zeros(int(1.5 * speech_features.RATE), np.float32)
    curves = shown(hear(np.concatenate([voice, gap, voice]).astype(np.float32)))
    start = int(len(voice) / speech_features.RATE * FPS) + 8
    pause = slice(start, start + 24)
    assert curves.aperture[pause].max() < 0.5
    assert curves.jaw[pause].max() < 0.5
    assert np.abs(curves.width[pause]).max() < 0.3


@pytest.mark.parametrize("seconds", [0.04, 0.3, 1.01])
@pytest.mark.parametrize("loud", [True, False])
def test_any_length_gives_a_value_for_each_frame(voice: np.ndarray, seconds: float, loud: bool):
    part = voice[: int(seconds * speech_features.RATE)] * loud
    curves = mouth_curves(hear(part), 30.0, 40)
    assert len(curves) == 40
    for name in ("aperture", "jaw", "width", "protrusion", "tongue", "teeth", "closure"):
        assert np.isfinite(getattr(curves, name)).all()
    if not loud:
        assert curves.aperture.max() == 0


def test_curves_are_read_at_the_frames_own_times(heard: Heard):
    slow, fast = shown(heard, 25.0), shown(heard, 50.0)
    apart = np.abs(slow.width - fast.width[::2][: len(slow)])
    assert apart.max() < 1e-3


def test_the_networks_are_small():
    assert WEIGHTS.stat().st_size < 5_000_000

"""Voice features and mouth curves: chunking, robustness, range of motion, closures, pauses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kolbo_demo.engine import EngineError, phoneme_model, speech_features
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.motion_model import WEIGHTS_PATH, load_motion_model
from kolbo_demo.engine.mouth_curves import BILABIALS, MouthCurves, mouth_curves
from kolbo_demo.engine.speech_features import Phoneme, VoiceFeatures, extract_voice_features
from kolbo_demo.engine.voices import speak
from tests import samples

FPS = 25.0


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return load_voice(samples.SPEECH, speech_features.SAMPLE_RATE)


@pytest.fixture(scope="module")
def features(voice: np.ndarray) -> VoiceFeatures:
    return extract_voice_features(voice)


def curves_of(features: VoiceFeatures, fps: float = FPS) -> MouthCurves:
    return mouth_curves(features, fps, int(len(features.level) * speech_features.HOP_SECONDS * fps))


def speech(text: str, folder: Path) -> np.ndarray:
    speak(text, folder / "speech.wav")
    return load_voice(folder / "speech.wav", speech_features.SAMPLE_RATE)


def test_recogniser_matches_hama(voice: np.ndarray):
    from hama import ASRModel

    theirs = ASRModel()
    spans = theirs.phoneme_spans(theirs.transcribe_waveform(voice, speech_features.SAMPLE_RATE))
    ours = phoneme_model.phoneme_recogniser()
    _, odds = ours.infer(ours.log_mels([voice]))
    emitted = [(at, symbol) for at, symbol in ours.decode(odds) if symbol != "<wb>"]
    same = set(emitted) & {(span.start_frame, span.phoneme) for span in spans}
    assert len(spans) > 40
    assert len(same) > 0.95 * max(len(spans), len(emitted))


def test_another_network_of_hama_is_refused(monkeypatch: pytest.MonkeyPatch):
    phoneme_model.phoneme_recogniser.cache_clear()
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"HAMAPK\x02\x02\x01\x00\x00\x00nothing")
    with pytest.raises(EngineError, match="install hama"):
        phoneme_model.phoneme_recogniser()
    phoneme_model.phoneme_recogniser.cache_clear()


def test_chunks_give_the_same_features_as_the_whole(
    voice: np.ndarray, features: VoiceFeatures, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(speech_features, "CHUNK_FRAMES", 120)
    pieces = extract_voice_features(voice)
    for name in load_motion_model().curve_names:
        whole, cut = features.curves[name], pieces.curves[name]
        assert whole.shape == cut.shape
        assert np.abs(whole - cut).max() < 0.8
        assert np.corrcoef(whole, cut)[0, 1] > 0.98
    assert [s.symbol for s in pieces.phonemes[:10]] == [s.symbol for s in features.phonemes[:10]]


def test_level_and_slight_noise_do_not_change_curves(voice: np.ndarray, features: VoiceFeatures):
    noise = 1e-3 * np.random.default_rng(3).standard_normal(len(voice)).astype(np.float32)
    for changed in (0.1 * voice, voice + noise):
        other = extract_voice_features(np.asarray(changed, np.float32))
        assert np.corrcoef(other.curves["opening"], features.curves["opening"])[0, 1] > 0.95


def test_range_and_speed_match_real_lips(features: VoiceFeatures):
    """Real people: the opening's spread 5 mm, the 95th percentile of its speed 140 mm/s; corners
    1.9 mm and 38 mm/s (means over speakers, fitting/evaluation.py)."""
    curves = curves_of(features)
    speed = np.percentile(np.abs(np.diff(curves.aperture)) * FPS, 95)
    assert 2.5 < curves.aperture.std() < 7.5
    assert 80 < speed < 280
    assert 1.0 < curves.width.std() < 3.5
    assert curves.aperture.min() == 0
    assert curves.aperture.max() <= 20.5


def test_p_b_m_close_the_lips_and_f_v_touch_the_teeth(tmp_path: Path):
    features = extract_voice_features(
        speech("Papa made my baby a map. Five vans have a very fine view.", tmp_path)
    )
    curves = curves_of(features)
    closed = [s for s in features.phonemes if s.symbol in BILABIALS]
    assert len(closed) >= 7
    at = np.flatnonzero(curves.closure == 1)
    for sound in closed:
        frame = (sound.centre if sound.symbol == "m" else sound.start) * FPS
        nearest = at[np.abs(at - frame).argmin()]
        assert abs(nearest - frame) < 2.5
        assert curves.aperture[nearest] == 0
    bites = [int((s.centre - 0.05) * FPS) for s in features.phonemes if s.symbol in ("f", "v")]
    assert len(bites) >= 4
    assert np.median([curves.teeth[i - 1 : i + 2].max() for i in bites]) > 0.5
    assert np.median([curves.aperture[i - 1 : i + 2].min() for i in bites]) < 4


def test_lips_meet_for_two_frames_at_p_b_m(features: VoiceFeatures):
    """At 25 frames a second; of a long m from its beginning on."""
    sounds = [Phoneme("p", 1.0, 1.06), Phoneme("b", 1.51, 1.55), Phoneme("m", 2.0, 2.34)]
    aperture = curves_of(replace(features, phonemes=sounds)).aperture
    for sound in sounds:
        around = slice(int((sound.start - 0.12) * FPS), int((sound.start + 0.1) * FPS))
        assert np.count_nonzero(aperture[around] < 1e-3) >= 2, sound


def test_rounded_sounds_narrow_and_protrude_the_mouth(tmp_path: Path):
    features = extract_voice_features(
        speech("Who knew you would choose two new blue shoes? See these three teas.", tmp_path)
    )
    curves = curves_of(features)

    def at(symbols: str) -> list[int]:
        return [int((s.centre - 0.05) * FPS) for s in features.phonemes if s.symbol in symbols]

    rounded, spread = at("uwʊ"), at("iɪ")
    assert len(rounded) > 4
    assert len(spread) > 2
    assert np.median(curves.width[rounded]) < np.median(curves.width[spread]) - 2
    assert np.median(curves.protrusion[rounded]) > np.median(curves.protrusion[spread]) + 0.3


def test_lips_rest_in_pauses(voice: np.ndarray):
    gap = np.zeros(int(1.5 * speech_features.SAMPLE_RATE), np.float32)
    curves = curves_of(
        extract_voice_features(np.concatenate([voice, gap, voice]).astype(np.float32))
    )
    start = int(len(voice) / speech_features.SAMPLE_RATE * FPS) + 8
    pause = slice(start, start + 24)
    assert curves.aperture[pause].max() < 0.5
    assert curves.jaw[pause].max() < 0.5
    assert np.abs(curves.width[pause]).max() < 0.3


@pytest.mark.parametrize("seconds", [0.04, 0.3, 1.01])
@pytest.mark.parametrize("loud", [True, False])
def test_any_duration_gives_a_value_for_each_frame(voice: np.ndarray, seconds: float, loud: bool):
    part = voice[: int(seconds * speech_features.SAMPLE_RATE)] * loud
    curves = mouth_curves(extract_voice_features(part), 30.0, 40)
    assert len(curves) == 40
    for name in ("aperture", "jaw", "width", "protrusion", "tongue", "teeth", "closure"):
        assert np.isfinite(getattr(curves, name)).all()
    if not loud:
        assert curves.aperture.max() == 0


def test_curves_are_sampled_at_frame_times(features: VoiceFeatures):
    slow, fast = curves_of(features, 25.0), curves_of(features, 50.0)
    apart = np.abs(slow.width - fast.width[::2][: len(slow)])
    assert apart.max() < 1e-3


def test_weights_are_small():
    assert WEIGHTS_PATH.stat().st_size < 5_000_000

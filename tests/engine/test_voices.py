"""Text to speech: every language heard, one loudness, refused and hostile texts."""

import sys
import unicodedata
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spokenform

from kolbo_demo.engine import EngineError
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.mouth_curves import BILABIALS
from kolbo_demo.engine.voices import (
    MAX_CHARACTERS,
    UnreadableTextError,
    check_words,
    choose_voice,
    guess_language,
    speak,
    voices,
)
from kolbo_demo.engine.voices.loudness import TARGET_LUFS, integrated_loudness, normalise
from kolbo_demo.engine.voices.phoneme_chunk import read_phonemes
from kolbo_demo.engine.voices.pronounce import pronounce
from kolbo_demo.engine.voices.written import spoken_sentences
from kolbo_demo.media.probe import MediaError

WORDS = {
    "en": "Maybe Bob met Pam.",
    "es": "Pepe compró pan.",
    "fr": "Papa mange une pomme.",
    "de": "Mein Bruder kommt bald.",
    "pt": "Pedro comeu bem.",
    "zh": "爸爸买面包。",
}


def samples(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        return sound.astype(np.float32), file.getframerate()


@pytest.mark.parametrize("language", WORDS)
def test_each_language_has_a_voice_whose_phonemes_are_timed(tmp_path: Path, language: str):
    output = tmp_path / "words.wav"
    speech = speak(WORDS[language], output, language=language)
    assert speech
    assert speech.voice == voices(language)[0]
    assert speech.voice.natural == (language != "de")
    sound, rate = samples(output)
    assert rate == speech.voice.sample_rate
    assert len(sound) / rate == pytest.approx(speech.seconds)
    assert 0.5 < speech.seconds < 5
    assert abs(integrated_loudness(sound, rate) - TARGET_LUFS) < 0.5
    assert list(tmp_path.iterdir()) == [output]
    if not speech.voice.natural:
        return
    times = [time for _, start, end in speech.phonemes for time in (start, end)]
    assert all(one <= other + 1e-3 for one, other in pairwise(times))
    closures = [(start, end) for symbol, start, end in speech.phonemes if symbol in "pbm"]
    assert len(closures) >= 3


@pytest.mark.parametrize("voice", [v.name for v in voices() if v.engine != "kokoro"])
def test_the_same_text_gives_the_same_file(tmp_path: Path, voice: str):
    one, two = tmp_path / "one.wav", tmp_path / "two.wav"
    language = next(v.language for v in voices() if v.name == voice)
    speak(f"{WORDS[language]}\n", one, voice=voice)
    speak(WORDS[language], two, voice=voice)
    assert one.read_bytes() == two.read_bytes()
    assert np.abs(load_voice(one)).max() > 0.05


def test_speed_changes_the_length_and_not_the_pitch(tmp_path: Path):
    lengths, pitches = [], []
    for speed in (0.5, 1.0, 2.0):
        speak("Many men are moving along the long road.", tmp_path / "w.wav", speed=speed)
        sound, rate = samples(tmp_path / "w.wav")
        lengths.append(len(sound) / rate)
        pitches.append(pitch(sound, rate))
    assert 1.6 < lengths[0] / lengths[1] < 2.4
    assert 1.6 < lengths[1] / lengths[2] < 2.4
    assert max(pitches) / min(pitches) < 1.4  # melody differs; played faster it would be 4


def pitch(sound: np.ndarray, rate: int) -> float:
    """Median fundamental frequency of the loud frames, Hz, by autocorrelation."""
    size = rate // 25
    frames = sound[: len(sound) // size * size].reshape(-1, size)
    loud = frames[np.square(frames).mean(1) > np.square(frames).mean()]
    spectra = np.abs(np.fft.rfft(loud, 2 * size, axis=1)) ** 2
    lags = np.fft.irfft(spectra, axis=1)[:, rate // 350 : rate // 80]
    return float(np.median(rate / (lags.argmax(1) + rate // 350)))


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "Dr. Smith paid $12.50 on 3/4/2025.", "Doctor Smith paid twelve dollars"),
        ("en", "Tom & Ann 😀 write to joe@example.com", "Tom and Ann write to joe at example dot"),
        ("es", "Cuesta 12,50 € el 14/05/2026.", "doce euros con cincuenta céntimos el catorce"),
        ("fr", "1 250 personnes, 15 %", "mille deux cent cinquante personnes, quinze pour cent"),
        ("de", "Das sind z. B. 2 kg.", "zum Beispiel zwei Kilogramm"),
        ("de", "1905 und 1998", "neunzehnhundertfünf und neunzehnhundertachtundneunzig"),
        ("de", "1998 € und 1.998 Leute", "eintausendneunhundertachtundneunzig Euro und eintausend"),
        ("pt", "Custa R$ 12,50 às 18:20.", "doze reais e cinquenta centavos"),
        ("zh", "2026年5月14日18:20占15%。", "二零二六年五月十四日十八点二十分占百分之十五"),
    ],
)
def test_numbers_dates_and_abbreviations_become_words(language: str, text: str, words: str):
    spoken = " ".join(sentence.text for sentence in spoken_sentences(text, language))
    assert words in spoken
    assert not any(character.isdigit() for character in spoken)


def test_sentences_and_paragraphs_have_pauses():
    first, second, third = spoken_sentences("Mr. Fox came. He left.\n\nThe end.", "en")
    assert first.text == "Mister Fox came."
    assert first.pause < second.pause == third.pause


def test_a_long_text_full_of_numbers_becomes_words():
    """The library for numbers takes minutes if it is given all of it at once."""
    spoken = spoken_sentences("It costs 1,234 dollars since 5/12/1998, Prof. Fox said. " * 85, "en")
    assert len(spoken) == 85
    assert {sentence.text for sentence in spoken} == {
        "It costs one thousand two hundred thirty four dollars since May twelfth nineteen ninety "
        "eight, Professor Fox said."
    }


def test_a_word_without_end_is_divided(monkeypatch: pytest.MonkeyPatch):
    """The time that the library for numbers takes grows with the cube of the length."""
    lengths = list[int]()
    prepare = spokenform.prepare

    def record(text: str, **options: Any) -> Any:
        lengths.append(len(text))
        return prepare(text, **options)

    monkeypatch.setattr(spokenform, "prepare", record)
    spoken = spoken_sentences("ab" * 2500, "en")
    assert max(lengths) <= 400
    assert "".join(sentence.text.replace(" ", "") for sentence in spoken) == "ab" * 2500


@pytest.mark.parametrize(
    ("locale", "text", "phonemes"),
    [
        ("pt-BR", "Meu irmão Pedro", "mˈeu iɾmˈãu pˈedɾu"),
        ("pt-BR", "O rato saiu do país, porque amanhã", "o ʁˈatu saˈiu do paˈis, pˈoɾki amaɲˈã"),
        ("fr-FR", "les pommes et vous prenez", "le pˈɔm e vu pʁənˈe"),
        ("fr-FR", "les enfants travaillent", "le zɑ̃fˈɑ̃ tʁavˈaj"),
        ("fr-FR", "il est neuf heures", "il ɛ nˈœv ˈœʁ"),
        ("fr-FR", "quatre vingt dix huit", "katʁvˈɛ̃ dizɥˈit"),
        ("fr-FR", "dix sept ou dix neuf", "disˈɛt u diznˈœf"),
        ("fr-FR", "il va peut-être pleuvoir", "il vˈa pøtˈɛtʁ pløvwˈaʁ"),
        ("fr-FR", "hier, le monsieur parlait souvent", "jˈɛʁ, lə møzjˈø paʁlˈɛ suvˈɑ̃"),
    ],
)
def test_words_are_pronounced_as_in_their_country(locale: str, text: str, phonemes: str):
    assert pronounce(text, locale) == unicodedata.normalize("NFD", phonemes)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the station?", "en"),
        ("¿Dónde está la estación?", "es"),
        ("Où est la gare ?", "fr"),
        ("Wo ist der Bahnhof?", "de"),
        ("Onde você está? Não sei.", "pt"),
        ("车站在哪里？", "zh"),
        ("איפה התחנה?", "he"),
        ("أين المحطة؟", "ar"),
        ("NASA", "en"),
    ],
)
def test_the_language_is_guessed(text: str, language: str):
    assert guess_language(text) == language


def test_a_text_without_a_hint_has_the_default_language():
    assert choose_voice("Taxi", default="de").language == "de"


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "no words"),
        ("?! 😀 <>", {}, "no words"),
        ("word " * (MAX_CHARACTERS // 4), {}, "too long"),
        ("أين المحطة؟", {}, "أرفق تسجيلاً"),
        ("איפה התחנה?", {}, "צרפו הקלטה"),
        ("Hello", {"language": "xx"}, "No voice speaks"),
        ("Hello", {"voice": "nobody"}, "There is no voice"),
        ("Hello", {"voice": "dora", "language": "de"}, "speaks es"),
        ("Hello", {"speed": 3.0}, "speed"),
    ],
)
def test_texts_that_cannot_be_spoken_are_refused_and_leave_no_file(
    tmp_path: Path, text: str, options: dict, says: str
):
    with pytest.raises(MediaError, match=says):
        speak(text, tmp_path / "out.wav", **options)
    assert list(tmp_path.iterdir()) == []


def test_characters_that_a_voice_cannot_read_are_named():
    with pytest.raises(UnreadableTextError, match="cannot read: 你 好") as caught:
        check_words("Hello 你好 你", choose_voice("", language="en"))
    assert caught.value.characters == ["你", "好"]
    check_words("我用Python写。", choose_voice("", language="zh"))


@pytest.mark.parametrize("voice", ["pico-en", "heart"])
@pytest.mark.parametrize(
    "text",
    [
        "Hello <genfile file='{path}'>there</genfile> <volume level='500'>",
        "Hello &lt;genfile file='{path}'&gt; <play file='/etc/passwd'/>",
        "Hello\x00 there \x1b[31m [word](/halO/) \u202e `touch {path}` $(touch {path})",
        "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file://{path}'>]>Hello &b;",
    ],
)
def test_markup_is_neither_obeyed_nor_written(tmp_path: Path, voice: str, text: str):
    output, written = tmp_path / "out.wav", tmp_path / "written"
    speech = speak(text.format(path=written), output, voice=voice)
    assert speech
    assert 0 < speech.seconds < 60
    assert list(tmp_path.iterdir()) == [output]


def test_a_sound_without_end_is_bounded(tmp_path: Path):
    text = "a" * 3000
    speech = speak(text, tmp_path / "out.wav", voice="pico-en")
    assert speech
    assert speech.seconds < 0.4 * (len(text) + 100)


def test_a_long_text_is_spoken_in_pieces_with_progress(tmp_path: Path):
    text = "The rain falls on the town. " * (MAX_CHARACTERS // 28)
    seen: list[tuple[int, int]] = []
    speak(text, tmp_path / "out.wav", voice="pico-en", on_spoken=lambda *at: seen.append(at))
    count = MAX_CHARACTERS // 28
    assert seen == [(number, count) for number in range(1, count + 1)]


def test_speech_ends_when_it_is_no_longer_wanted(tmp_path: Path):
    seen: list[int] = []
    text = "The rain falls on the town. " * 150
    assert (
        speak(
            text,
            tmp_path / "out.wav",
            on_spoken=lambda done, _: seen.append(done),
            should_continue=lambda: not seen,
        )
        is None
    )
    assert len(seen) < 150
    assert list(tmp_path.iterdir()) == []


def test_the_lips_close_for_each_p_b_and_m_of_the_text(tmp_path: Path):
    speak("Pepe compra pan. Bob may map my lamp.", tmp_path / "words.wav")
    seconds = len(load_voice(tmp_path / "words.wav")) / 16_000
    phonemes = read_phonemes(tmp_path / "words.wav", seconds)
    assert phonemes
    assert sum(phoneme.symbol in BILABIALS for phoneme in phonemes) == 13
    assert all(one.end <= two.start + 1e-6 for one, two in pairwise(phonemes))
    assert phonemes[-1].end < seconds


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'[["p", 0, 1e999]]',
        b'[["p", 5, 1]]',
        b'[["x" , 0, 99999]]',
        b'[["\\ud800", 0, 1]]',
        b'{"p": 1}',
        b"[]",
        b"\xff\xfe",
    ],
)
def test_phonemes_in_a_visitors_file_are_checked(tmp_path: Path, content: bytes):
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    whole = path.read_bytes()
    for size in (len(content), 2**32 - 1, 0):
        path.write_bytes(whole + b"kbph" + size.to_bytes(4, "little") + content)
        assert read_phonemes(path, 1.0) is None
    assert len(load_voice(path)) == 16_000


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_loudness_is_that_of_the_standard(rate: int):
    time = np.arange(4 * rate) / rate
    sine = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert integrated_loudness(sine, rate) == pytest.approx(-3.01, abs=0.1)
    quiet = np.concatenate([0.02 * sine, np.zeros(5 * rate, np.float32)])  # pauses do not count
    level = integrated_loudness(normalise(quiet, rate), rate)
    assert level == pytest.approx(TARGET_LUFS, abs=0.3)


def test_a_missing_library_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "py_nanotts.py").write_text("raise ImportError(name='py_nanotts')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("kolbo_demo.engine.voices._forks", fresh_forks())
    output = tmp_path / "out" / "words.wav"
    output.parent.mkdir()
    with pytest.raises(EngineError, match=r"py_nanotts.*give a recording"):
        speak("Hello.", output, voice="pico-en")
    assert list(output.parent.iterdir()) == []


def fresh_forks():
    from kolbo_demo.process.fork_server import ForkServer

    return ForkServer("kolbo_demo.engine.voices.worker")


if sys.platform == "darwin":
    pytestmark = pytest.mark.skip("no Pico for macOS")

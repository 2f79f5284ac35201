"""hama's phoneme recogniser with its inner layers, in numpy.

hama ships the weights of a small Conformer (Gulati et al., 2020: "Conformer: convolution-augmented
transformer for speech recognition"; 4 blocks of 144 channels) and a native library that hands out
its last answer only. What its blocks hear on the way says far more about lips than that answer, so
the network is run here from the same weights. That is several times faster, too.
"""

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine import EngineError

Floats = NDArray[np.float32]

RATE = 16_000
HOP = 160
"""Samples between two mel frames; the recogniser answers on every second one."""
STEP = 2 * HOP / RATE
"""Seconds between two of the recogniser's frames; frame i is heard around i * STEP."""
BANDS, CHANNELS, BLOCKS = 80, 144, 4

_WINDOW, _HEADS, _PIECE, _QUERIES = 400, 4, 3000, 256
_SOFTER, _BLANK_BIAS = 0.95, -0.1  # hama's own decoding


class Recogniser:
    """The network. Made once by `recogniser()`."""

    def __init__(self, weights: dict[str, Floats], symbols: list[str]) -> None:
        self.symbols = symbols
        w = weights
        self._filters = w["mel_fb"]
        kernels = w["stft_real_kernel"][:, 0], w["stft_imag_kernel"][:, 0]
        self._fourier = np.concatenate(kernels).T.copy()
        convs = [w[name] for name in sorted(w) if name.startswith("onnx::Conv_")]
        products = [w[name] for name in sorted(w) if name.startswith("onnx::MatMul_")]
        self._first = convs[0].transpose(2, 1, 0).copy(), convs[1]
        self._blocks = [
            _Block(w, f"acoustic_model.model.blocks.{i}.", products[6 * i : 6 * i + 6],
                   convs[2 + 2 * i][:, 0].T.copy(), convs[3 + 2 * i])
            for i in range(BLOCKS)
        ]  # fmt: skip
        end = "acoustic_model.model.proj."
        self._last = w[end + "weight"][:, :, 0].T.copy(), w[end + "bias"]

    def mels(self, pieces: Iterable[Floats]) -> NDArray[np.float16]:
        """Log mel bands (n, 80) each 10 ms of a 16 kHz waveform in pieces, n = samples // 160 + 1.

        In 16 bits, and without holding the waveform: a voice may last an hour.
        """
        half = _WINDOW // 2
        out, held, total, before = bytearray(), np.zeros(0, np.float32), 0, half
        for piece in pieces:
            total += len(piece)
            held = np.concatenate([held, piece])
            # As `held` begins half a window before the next frame, or at the very beginning.
            while len(held) > (needed := _PIECE * HOP + half):
                padded = np.pad(held[:needed], (before, 0), mode="reflect")
                count = (len(padded) - _WINDOW) // HOP + 1
                out += self._mel(padded, count).tobytes()  # grows in its place
                held, before = held[count * HOP - before :], 0
        held = np.pad(held, (0, max(_WINDOW - total, 0)))
        padded = np.pad(held, (before, half), mode="reflect")
        count = max(total, _WINDOW) // HOP + 1 - len(out) // (2 * BANDS)
        out += self._mel(padded, count).tobytes()
        return np.frombuffer(out, np.float16).reshape(-1, BANDS)

    def _mel(self, wave: Floats, count: int) -> NDArray[np.float16]:
        """The first `count` frames of a waveform."""
        windows = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[::HOP][:count]
        spectrum = windows @ self._fourier
        half = spectrum.shape[1] // 2
        power = spectrum[:, :half] ** 2 + spectrum[:, half:] ** 2
        return np.log(np.maximum(power @ self._filters, 1e-8)).astype(np.float16)

    def hear(self, mels: NDArray[np.float16]) -> tuple[list[Floats], Floats]:
        """What each block makes of mel frames (n, 80): 4 arrays (ceil(n / 2), 144); and the
        logarithms of the odds of each symbol, (ceil(n / 2), symbols)."""
        kernel, bias = self._first
        count = (len(mels) + 1) // 2
        padded = np.pad(mels.astype(np.float32), ((1, 2), (0, 0)))
        hidden = bias + sum(padded[k : k + 2 * count : 2] @ kernel[k] for k in range(3))
        hidden = np.maximum(hidden, 0)
        layers = []
        for block in self._blocks:
            hidden = block(hidden)
            layers.append(hidden)
        weight, bias = self._last
        logits = hidden @ weight + bias
        top = logits.max(1, keepdims=True)
        return layers, logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))

    def emitted(self, log_odds: Floats) -> Iterator[tuple[int, str]]:
        """Frame and symbol of each sound that the odds (n, symbols) name, word ends included."""
        blank = len(self.symbols) - 1
        scores = log_odds / _SOFTER
        scores[:, blank] += _BLANK_BIAS
        best = scores.argmax(1)
        changes = np.flatnonzero(np.diff(best, prepend=-1))
        yield from ((int(i), self.symbols[best[i]]) for i in changes if best[i] != blank)


class _Block:
    """One Conformer block: half a feed-forward, attention, convolution, the other half."""

    def __init__(
        self, w: dict[str, Floats], name: str, products: list[Floats], depth: Floats, bias: Floats
    ) -> None:
        def norm(part: str) -> tuple[Floats, Floats]:
            return w[name + part + ".weight"], w[name + part + ".bias"]

        one, two, self._qkv, self._out, three, four = products
        self._feeds = [
            (norm(f"{part}.norm"), a, w[f"{name}{part}.fc1.bias"], b, w[f"{name}{part}.fc2.bias"])
            for part, a, b in (("ffn1", one, two), ("ffn2", three, four))
        ]
        self._norms = norm("attn_norm"), norm("conv.norm"), norm("norm")
        self._biases = w[name + "attn.in_proj_bias"], w[name + "attn.out_proj.bias"]
        self._points = [
            (w[f"{name}conv.pointwise{i}.weight"][:, :, 0].T.copy(),
             w[f"{name}conv.pointwise{i}.bias"])
            for i in (1, 2)
        ]  # fmt: skip
        self._depth = depth, bias

    def __call__(self, x: Floats) -> Floats:
        x = x + self._feed(x, 0)
        x = x + self._attention(normed(x, *self._norms[0]))
        x = x + self._convolution(normed(x, *self._norms[1]))
        x = x + self._feed(x, 1)
        return normed(x, *self._norms[2])

    def _feed(self, x: Floats, which: int) -> Floats:
        norm, one, bias, two, last = self._feeds[which]
        return 0.5 * (_swish(normed(x, *norm) @ one + bias) @ two + last)

    def _attention(self, x: Floats) -> Floats:
        shape = len(x), 3, _HEADS, CHANNELS // _HEADS
        query, key, value = (x @ self._qkv + self._biases[0]).reshape(shape).transpose(1, 2, 0, 3)
        query *= np.float32(shape[3] ** -0.5)
        seen = np.empty(query.shape, np.float32)
        for start in range(0, len(x), _QUERIES):  # all at once would take 100 MB
            asked = slice(start, start + _QUERIES)
            score = query[:, asked] @ key.transpose(0, 2, 1)
            score -= score.max(-1, keepdims=True)
            np.exp(score, out=score)
            seen[:, asked] = (score @ value) / score.sum(-1, keepdims=True)
        joined: Floats = seen.transpose(1, 0, 2).reshape(x.shape)
        return joined @ self._out + self._biases[1]

    def _convolution(self, x: Floats) -> Floats:
        (one, one_bias), (two, two_bias) = self._points
        both = x @ one + one_bias
        gated = both[:, :CHANNELS] * _sigmoid(both[:, CHANNELS:])
        kernel, bias = self._depth
        reach = len(kernel) // 2
        padded = np.pad(gated, ((reach, reach), (0, 0)))
        out = bias + sum(padded[k : k + len(x)] * kernel[k] for k in range(len(kernel)))
        return _swish(out) @ two + two_bias


def normed(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Layer normalisation of each row (n, channels)."""
    x = x - x.mean(-1, keepdims=True)
    spread = np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(1e-5))
    return np.asarray(x / spread * weight + bias, np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(np.minimum(-x, 80))), np.float32)


def _swish(x: Floats) -> Floats:
    return x * _sigmoid(x)


@cache
def recogniser() -> Recogniser:
    """The recogniser of the installed hama. EngineError where hama holds another one."""
    try:
        from hama.vocab import Vocabulary

        packed = resources.files("hama.assets").joinpath("asr_waveform.hama").read_bytes()
        return Recogniser(_unpacked(packed), [*Vocabulary.load(None).decoder, "<wb>", "<blank>"])
    except (ImportError, OSError, KeyError, ValueError, IndexError, struct.error) as error:
        raise EngineError(
            "The installed hama does not hold the phoneme recogniser that this engine reads; "
            "install hama 1.7."
        ) from error


def _unpacked(packed: bytes) -> dict[str, Floats]:
    """The arrays of a .hama file: a table of names, types, shapes and places, then the numbers."""
    if packed[:6] != b"HAMAPK":
        raise ValueError("not a hama file")
    (count,) = struct.unpack_from("<I", packed, 8)
    at, table = 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", packed, at)
        name = packed[at + 2 : at + 2 + length].decode()
        at += 2 + length
        kind, axes = packed[at], packed[at + 1]
        shape = struct.unpack_from(f"<{axes}I", packed, at + 2)
        start, size = struct.unpack_from("<QQ", packed, at + 2 + 4 * axes)
        at += 18 + 4 * axes
        table.append((name, np.float32 if kind == 0 else np.float16, shape, start, size))
    base = len(packed) - max(start + size for *_, start, size in table)
    return {
        name: np.frombuffer(packed, kind, int(np.prod(shape)), base + start)
        .reshape(shape)
        .astype(np.float32)
        for name, kind, shape, start, _ in table
    }

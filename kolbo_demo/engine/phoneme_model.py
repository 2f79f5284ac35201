"""hama's phoneme recogniser in numpy, with its hidden layers.

hama ships the weights of a small Conformer (Gulati et al., 2020: "Conformer: convolution-augmented
transformer for speech recognition"; 4 blocks of 144 channels) and a native library that returns
its output only. The hidden layers predict lips far better than the output, so the network runs here
from the same weights, several times faster than the library.
"""

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine import EngineError

Floats = NDArray[np.float32]

SAMPLE_RATE = 16_000
MEL_HOP_SAMPLES = 160
FRAME_SECONDS = 2 * MEL_HOP_SAMPLES / SAMPLE_RATE
"""Per output frame, which spans two mel frames; frame i is centred near i * FRAME_SECONDS."""
MEL_BANDS, CHANNELS, BLOCKS = 80, 144, 4

_WINDOW_SAMPLES, _HEADS, _BLOCK_FRAMES, _QUERY_BLOCK = 400, 4, 3000, 256
_TEMPERATURE, _BLANK_BIAS = 0.95, -0.1  # hama's own decoding


class PhonemeRecogniser:
    """The network; `phoneme_recogniser()` has the shared instance."""

    def __init__(self, weights: dict[str, Floats], symbols: list[str]) -> None:
        self.symbols = symbols
        w = weights
        self._filters = w["mel_fb"]
        kernels = w["stft_real_kernel"][:, 0], w["stft_imag_kernel"][:, 0]
        self._fourier = np.concatenate(kernels).T.copy()
        convs = [w[name] for name in sorted(w) if name.startswith("onnx::Conv_")]
        products = [w[name] for name in sorted(w) if name.startswith("onnx::MatMul_")]
        self._input_conv = convs[0].transpose(2, 1, 0).copy(), convs[1]
        self._blocks = [
            _ConformerBlock(w, f"acoustic_model.model.blocks.{i}.", products[6 * i : 6 * i + 6],
                   convs[2 + 2 * i][:, 0].T.copy(), convs[3 + 2 * i])
            for i in range(BLOCKS)
        ]  # fmt: skip
        end = "acoustic_model.model.proj."
        self._output_layer = w[end + "weight"][:, :, 0].T.copy(), w[end + "bias"]

    def log_mels(self, blocks: Iterable[Floats]) -> NDArray[np.float16]:
        """Log mel bands (n, 80) every 10 ms of a 16 kHz waveform in blocks, n = samples // 160 + 1.

        In 16 bits, and without the whole waveform in memory: a voice may last an hour.
        """
        half = _WINDOW_SAMPLES // 2
        out, buffer, total, left_padding = bytearray(), np.zeros(0, np.float32), 0, half
        for block in blocks:
            total += len(block)
            buffer = np.concatenate([buffer, block])
            # `buffer` begins half a window before the next frame, or at the very beginning.
            while len(buffer) > (needed := _BLOCK_FRAMES * MEL_HOP_SAMPLES + half):
                padded = np.pad(buffer[:needed], (left_padding, 0), mode="reflect")
                count = (len(padded) - _WINDOW_SAMPLES) // MEL_HOP_SAMPLES + 1
                out += self._log_mel_frames(padded, count).tobytes()  # grows in its place
                buffer, left_padding = buffer[count * MEL_HOP_SAMPLES - left_padding :], 0
        buffer = np.pad(buffer, (0, max(_WINDOW_SAMPLES - total, 0)))
        padded = np.pad(buffer, (left_padding, half), mode="reflect")
        count = max(total, _WINDOW_SAMPLES) // MEL_HOP_SAMPLES + 1 - len(out) // (2 * MEL_BANDS)
        out += self._log_mel_frames(padded, count).tobytes()
        return np.frombuffer(out, np.float16).reshape(-1, MEL_BANDS)

    def _log_mel_frames(self, wave: Floats, count: int) -> NDArray[np.float16]:
        windows = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW_SAMPLES)
        spectrum = windows[::MEL_HOP_SAMPLES][:count] @ self._fourier
        half = spectrum.shape[1] // 2
        power = spectrum[:, :half] ** 2 + spectrum[:, half:] ** 2
        return np.log(np.maximum(power @ self._filters, 1e-8)).astype(np.float16)

    def infer(self, mels: NDArray[np.float16]) -> tuple[list[Floats], Floats]:
        """Outputs of the 4 blocks, each (ceil(n / 2), 144), and log probabilities of the symbols,
        (ceil(n / 2), symbols), for log mel frames (n, 80)."""
        kernel, bias = self._input_conv
        count = (len(mels) + 1) // 2
        padded = np.pad(mels.astype(np.float32), ((1, 2), (0, 0)))
        hidden = bias + sum(padded[k : k + 2 * count : 2] @ kernel[k] for k in range(3))
        hidden = np.maximum(hidden, 0)
        layers = []
        for block in self._blocks:
            hidden = block(hidden)
            layers.append(hidden)
        weight, bias = self._output_layer
        logits = hidden @ weight + bias
        top = logits.max(1, keepdims=True)
        return layers, logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))

    def decode(self, log_probs: Floats) -> Iterator[tuple[int, str]]:
        """Greedy CTC: frame and symbol of each emission, word ends included."""
        blank = len(self.symbols) - 1
        scores = log_probs / _TEMPERATURE
        scores[:, blank] += _BLANK_BIAS
        best = scores.argmax(1)
        changes = np.flatnonzero(np.diff(best, prepend=-1))
        yield from ((int(i), self.symbols[best[i]]) for i in changes if best[i] != blank)


class _ConformerBlock:
    """One Conformer block: half feed-forward, attention, convolution, half feed-forward."""

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
        x = x + self._attention(layer_norm(x, *self._norms[0]))
        x = x + self._convolution(layer_norm(x, *self._norms[1]))
        x = x + self._feed(x, 1)
        return layer_norm(x, *self._norms[2])

    def _feed(self, x: Floats, which: int) -> Floats:
        norm, one, bias, two, last = self._feeds[which]
        return 0.5 * (_swish(layer_norm(x, *norm) @ one + bias) @ two + last)

    def _attention(self, x: Floats) -> Floats:
        shape = len(x), 3, _HEADS, CHANNELS // _HEADS
        query, key, value = (x @ self._qkv + self._biases[0]).reshape(shape).transpose(1, 2, 0, 3)
        query *= np.float32(shape[3] ** -0.5)
        attended = np.empty(query.shape, np.float32)
        for start in range(0, len(x), _QUERY_BLOCK):  # all rows at once would take 100 MB
            rows = slice(start, start + _QUERY_BLOCK)
            score = query[:, rows] @ key.transpose(0, 2, 1)
            score -= score.max(-1, keepdims=True)
            np.exp(score, out=score)
            attended[:, rows] = (score @ value) / score.sum(-1, keepdims=True)
        joined: Floats = attended.transpose(1, 0, 2).reshape(x.shape)
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


def layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Layer normalisation of rows (n, channels)."""
    x = x - x.mean(-1, keepdims=True)
    spread = np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(1e-5))
    return np.asarray(x / spread * weight + bias, np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(np.minimum(-x, 80))), np.float32)


def _swish(x: Floats) -> Floats:
    return x * _sigmoid(x)


@cache
def phoneme_recogniser() -> PhonemeRecogniser:
    """The recogniser of the installed hama. Raises EngineError for another version's network."""
    try:
        from hama.vocab import Vocabulary

        packed = resources.files("hama.assets").joinpath("asr_waveform.hama").read_bytes()
        return PhonemeRecogniser(
            _read_weights(packed), [*Vocabulary.load(None).decoder, "<wb>", "<blank>"]
        )
    except (ImportError, OSError, KeyError, ValueError, IndexError, struct.error) as error:
        raise EngineError(
            "The installed hama does not have the phoneme recogniser that this engine needs; "
            "install hama 1.7."
        ) from error


def _read_weights(packed: bytes) -> dict[str, Floats]:
    """Arrays by name of a .hama file: a table of names, types, shapes and offsets, then data."""
    if packed[:6] != b"HAMAPK":
        raise ValueError("not a hama file")
    (count,) = struct.unpack_from("<I", packed, 8)
    offset, table = 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", packed, offset)
        name = packed[offset + 2 : offset + 2 + length].decode()
        offset += 2 + length
        kind, axes = packed[offset], packed[offset + 1]
        shape = struct.unpack_from(f"<{axes}I", packed, offset + 2)
        start, size = struct.unpack_from("<QQ", packed, offset + 2 + 4 * axes)
        offset += 18 + 4 * axes
        table.append((name, np.float32 if kind == 0 else np.float16, shape, start, size))
    base = len(packed) - max(start + size for *_, start, size in table)
    return {
        name: np.frombuffer(packed, kind, int(np.prod(shape)), base + start)
        .reshape(shape)
        .astype(np.float32)
        for name, kind, shape, start, _ in table
    }

"""Loudness of speech by EBU R 128 (ITU-R BS.1770-4), and one level for all voices."""

import numpy as np
from numpy.typing import NDArray

TARGET_LUFS = -18.0
"""Usual for speech."""
PEAK = 10 ** (-1 / 20)
"""Largest sample, -1 dBFS."""
_KNEE = 0.7 * PEAK
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0
_BLOCK_SECONDS, _STEP_SECONDS = 0.4, 0.1

Samples = NDArray[np.float32]


def integrated_loudness(samples: Samples, rate: int) -> float:
    """LUFS of a mono signal; -inf for silence."""
    step, block = round(_STEP_SECONDS * rate), round(_BLOCK_SECONDS * rate)
    padded = np.pad(samples, (0, max(block - len(samples), 0)))
    weighted = _k_weight(padded, rate)
    sums = np.concatenate([[0.0], np.cumsum(np.square(weighted, dtype=np.float64))])
    starts = np.arange(0, len(padded) - block + 1, step)
    power = (sums[starts + block] - sums[starts]) / block
    power = power[power > 10 ** ((_ABSOLUTE_GATE + 0.691) / 10)]
    if not len(power):
        return -np.inf
    loud = power[power > power.mean() * 10 ** (_RELATIVE_GATE / 10)]
    return float(-0.691 + 10 * np.log10(loud.mean()))


def normalise(samples: Samples, rate: int) -> Samples:
    """The signal at TARGET_LUFS, its peaks bent below PEAK."""
    loudness = integrated_loudness(samples, rate)
    if not np.isfinite(loudness):
        return samples
    louder = samples * np.float32(10 ** ((TARGET_LUFS - loudness) / 20))
    size = np.abs(louder)
    room = PEAK - _KNEE
    bent = _KNEE + room * np.tanh((size - _KNEE) / room)
    return np.where(size > _KNEE, np.sign(louder) * bent, louder).astype(np.float32)


def _k_weight(samples: Samples, rate: int) -> NDArray[np.float64]:
    """The two filters of BS.1770, applied to the spectrum: their phase does not matter."""
    size = 1 << (len(samples) + rate // 10).bit_length()
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    response = np.ones_like(z)
    for b, a in (_shelf(rate), _highpass(rate)):
        response *= (b[0] + b[1] * z + b[2] * z**2) / (1 + a[0] * z + a[1] * z**2)
    return np.fft.irfft(np.fft.rfft(samples, size) * response, size)[: len(samples)]


def _shelf(rate: int) -> tuple[tuple[float, float, float], tuple[float, float]]:
    k = np.tan(np.pi * 1681.974450955533 / rate)
    q, high, band = 0.7071752369554196, 1.584864701130855, 1.258720930232562
    norm = 1 + k / q + k * k
    return (
        ((high + band * k / q + k * k) / norm, 2 * (k * k - high) / norm,
         (high - band * k / q + k * k) / norm),
        (2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm),
    )  # fmt: skip


def _highpass(rate: int) -> tuple[tuple[float, float, float], tuple[float, float]]:
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    return (1.0, -2.0, 1.0), (2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm)

"""Audio-to-motion networks: mouth curves learned from people.

An ensemble of small convolutional networks, each fitted on other speakers (`python -m fitting
motion`), maps log-mel bands and the phoneme recogniser's hidden layers, 0.7 s either way, to mouth
curves with mean 0 and standard deviation 1 over a speaker's clip. Numpy only; weights are in
`assets/motion.npz`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.phoneme_model import layer_norm

Floats = NDArray[np.float32]

WEIGHTS_PATH = ASSETS / "motion.npz"
LOUD_RANGE = 6.0
"""Frames whose mean log mel is this close to the loud ones (95th percentile) give the mean spectrum
of speaker and microphone, which is removed."""


def mean_spectrum(log_mels: NDArray[np.float16]) -> Floats:
    """Mean (80,) over the loud frames of log mel bands (n, 80)."""
    level = log_mels.mean(1, dtype=np.float32)
    loud = level >= np.percentile(level, 95) - LOUD_RANGE
    return np.asarray(log_mels.mean(0, dtype=np.float32, where=loud[:, None]), np.float32)


def spectral_inputs(log_mels: NDArray[np.float16], mean: Floats) -> Floats:
    """Log mel bands (n, 80) minus a mean (80,), in pairs of frames: (ceil(n / 2), 160)."""
    if len(log_mels) % 2:
        log_mels = np.concatenate([log_mels, log_mels[-1:]])
    return (log_mels - mean).reshape(len(log_mels) // 2, -1)


class MotionModel:
    """The ensemble of fitted networks."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        self.curve_names = [str(name) for name in arrays["curves"]]
        """Opening, width, jaw, pout (lips forward and round)."""
        pairs = zip(arrays["heard"], arrays["seen"], strict=True)
        self.quantiles = dict(zip(self.curve_names, pairs, strict=True))
        """By name: quantiles of predicted curves, and of landmarks of people (mm; pout 0-1)."""
        self._mean, self._std = (arrays[n].astype(np.float32) for n in ("mean", "spread"))
        self._dilations = [int(d) for d in arrays["dilations"]]
        self._networks: list[dict[str, Floats]] = [{} for _ in range(int(arrays["nets"]))]
        for name, value in arrays.items():
            net, _, part = name.partition(":")
            if part and not part.endswith(".step"):
                step = arrays.get(f"{name}.step", np.float32(1))  # matrices are stored in 8 bits
                self._networks[int(net)][part] = value.astype(np.float32) * step

    def __call__(
        self,
        spectra: Floats,
        layers: list[Floats],
        check_cancelled: Callable[[], None] | None = None,
    ) -> Floats:
        """Curves (curves, n) every 20 ms from `spectral_inputs` (n, 160) and the recogniser's 4
        layers (n, 144). `check_cancelled` is called before each network and may raise."""
        inputs = (np.concatenate([spectra, *layers], 1) - self._mean) / self._std
        predictions = []
        for net in self._networks:
            if check_cancelled is not None:
                check_cancelled()
            predictions.append(self._run(net, inputs))
        return np.mean(predictions, axis=0).T

    def _run(self, w: dict[str, Floats], inputs: Floats) -> Floats:
        x = inputs @ w["in.w"] + w["in.b"]
        for i, dilation in enumerate(self._dilations):
            h = layer_norm(x, w[f"{i}.norm.w"], w[f"{i}.norm.b"])
            kernel = w[f"{i}.conv.w"]
            reach = len(kernel) // 2 * dilation
            padded = np.pad(h, ((reach, reach), (0, 0)))
            h = w[f"{i}.conv.b"] + sum(
                padded[k * dilation : k * dilation + len(x)] @ kernel[k] for k in range(len(kernel))
            )
            h = h * (0.5 + 0.5 * _erf(h * np.float32(0.5**0.5)))
            x = x + h @ w[f"{i}.mix.w"] + w[f"{i}.mix.b"]
        return layer_norm(x, w["norm.w"], w["norm.b"]) @ w["out.w"] + w["out.b"]


def _erf(x: Floats) -> Floats:
    """Error function to within 5e-7 (Abramowitz and Stegun, 1964, 7.1.26), 4 times faster than
    scipy's."""
    a = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * a)
    total = np.float32(1.061405429)
    for part in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = total * t + np.float32(part)
    return np.copysign(1 - total * t * np.exp(-a * a), x)


@cache
def load_motion_model() -> MotionModel:
    """The shipped ensemble."""
    return MotionModel(WEIGHTS_PATH)

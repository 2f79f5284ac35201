"""Mouth curves learned from people: where lips go, heard in the sound.

A few small networks, each fitted on other speakers (`python -m fitting motion`), listen to log-mel
bands and to the inner layers of the phoneme recogniser, 0.7 s either way, and their mean is taken.
They say where lips go, not how far: each curve has mean 0 and spread 1 over a speaker's clip.
Weights in `assets/motion.npz`, numpy only.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.phoneme_model import normed

Floats = NDArray[np.float32]

WEIGHTS = ASSETS / "motion.npz"
LOUD = 6.0
"""A frame whose log mel is within so much of the loud ones (95th percentile) tells the speaker's
and the microphone's mean spectrum, which is taken out."""


def mean_spectrum(mels: NDArray[np.float16]) -> Floats:
    """The mean (80,) of the loud ones among log mel bands (n, 80)."""
    level = mels.mean(1, dtype=np.float32)
    loud = level >= np.percentile(level, 95) - LOUD
    return np.asarray(mels.mean(0, dtype=np.float32, where=loud[:, None]), np.float32)


def spectrum(mels: NDArray[np.float16], mean: Floats) -> Floats:
    """Log mel bands (n, 80) each 10 ms, less a mean (80,), in pairs: (ceil(n / 2), 160)."""
    if len(mels) % 2:
        mels = np.concatenate([mels, mels[-1:]])
    return (mels - mean).reshape(len(mels) // 2, -1)


class Motion:
    """The fitted networks."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        self.names = [str(name) for name in arrays["curves"]]
        """What each curve is: opening, width, jaw, pout (lips forward and round)."""
        pairs = zip(arrays["heard"], arrays["seen"], strict=True)
        self.quantiles = dict(zip(self.names, pairs, strict=True))
        """By name: quantiles of the predicted curve, and the same ones of people's lips as their
        landmarks tell them (mm; the pout 0-1)."""
        self._mean, self._spread = (arrays[n].astype(np.float32) for n in ("mean", "spread"))
        self._dilations = [int(d) for d in arrays["dilations"]]
        self._nets: list[dict[str, Floats]] = [{} for _ in range(int(arrays["nets"]))]
        for name, value in arrays.items():
            net, _, part = name.partition(":")
            if part and not part.endswith(".step"):
                step = arrays.get(f"{name}.step", np.float32(1))  # matrices are kept in 8 bits
                self._nets[int(net)][part] = value.astype(np.float32) * step

    def __call__(
        self, heard: Floats, layers: list[Floats], go_on: Callable[[], None] | None = None
    ) -> Floats:
        """Curves (curves, n) each 20 ms from `spectrum` (n, 160) and the recogniser's layers, 4 of
        (n, 144). `go_on` is called before each network and may raise, to end it."""
        inputs = (np.concatenate([heard, *layers], 1) - self._mean) / self._spread
        made = []
        for net in self._nets:
            if go_on is not None:
                go_on()
            made.append(self._run(net, inputs))
        return np.mean(made, axis=0).T

    def _run(self, w: dict[str, Floats], inputs: Floats) -> Floats:
        x = inputs @ w["in.w"] + w["in.b"]
        for i, dilation in enumerate(self._dilations):
            h = normed(x, w[f"{i}.norm.w"], w[f"{i}.norm.b"])
            kernel = w[f"{i}.conv.w"]
            reach = len(kernel) // 2 * dilation
            padded = np.pad(h, ((reach, reach), (0, 0)))
            h = w[f"{i}.conv.b"] + sum(
                padded[k * dilation : k * dilation + len(x)] @ kernel[k] for k in range(len(kernel))
            )
            h = h * (0.5 + 0.5 * _erf(h * np.float32(0.5**0.5)))
            x = x + h @ w[f"{i}.mix.w"] + w[f"{i}.mix.b"]
        return normed(x, w["norm.w"], w["norm.b"]) @ w["out.w"] + w["out.b"]


def _erf(x: Floats) -> Floats:
    """The error function to within 5e-7 (Abramowitz and Stegun, 1964, 7.1.26), four times as fast
    as scipy's."""
    a = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * a)
    total = np.float32(1.061405429)
    for part in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = total * t + np.float32(part)
    return np.copysign(1 - total * t * np.exp(-a * a), x)


@cache
def motion() -> Motion:
    """The networks that ship with the engine."""
    return Motion(WEIGHTS)

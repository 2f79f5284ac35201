"""Training of the audio-to-motion networks: cross-validated by speaker."""

# pyright: reportMissingImports=false
# Torch is needed for fitting alone (requirements-fit.txt): the checks run without it.

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional

from fitting.dataset import CURVE_NAMES, TrainingClip, load
from fitting.evaluation import correlation_lines, quantile_maps
from kolbo_demo.engine.phoneme_model import FRAME_SECONDS

ENGINE_CURVES = ("opening", "width", "jaw", "pout")
"""The curves that the engine uses."""
CHANNELS, KERNEL, DILATIONS = 96, 5, (1, 2, 4, 8, 1, 2)
DROPOUT, INPUT_DROPOUT, LEARNING_RATE, WEIGHT_DECAY = 0.2, 0.2, 2e-3, 0.02
BATCH_SIZE, MAX_FRAMES = 8, 300
"""Clips per step, and frames (20 ms) of each."""
SMOOTHING_SECONDS = 0.02
"""Smoothing of targets: landmarks jitter. The evaluation uses raw curves."""
AUGMENTATIONS = 3
"""Augmented copies of each voice."""

Floats = NDArray[np.float32]


class Block(nn.Module):
    """Residual block: layer norm, dilated convolution, GELU, 1x1 convolution."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.conv = nn.Conv1d(
            CHANNELS, CHANNELS, KERNEL, padding=KERNEL // 2 * dilation, dilation=dilation
        )
        self.mix = nn.Conv1d(CHANNELS, CHANNELS, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.norm(x.transpose(1, 2)).transpose(1, 2) * mask
        return x + self.dropout(self.mix(functional.gelu(self.conv(h))))


class Net(nn.Module):
    """Inputs (batch, n, frames) to curves (batch, curves, frames), as `MotionModel` runs it."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.drop = nn.Dropout1d(INPUT_DROPOUT)
        self.enter = nn.Conv1d(inputs, CHANNELS, 1)
        self.blocks = nn.ModuleList(Block(d) for d in DILATIONS)
        self.norm = nn.LayerNorm(CHANNELS)
        self.out = nn.Conv1d(CHANNELS, len(CURVE_NAMES), 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.enter(self.drop(x))
        for block in self.blocks:
            h = block(h, mask)
        return self.out(self.norm(h.transpose(1, 2)).transpose(1, 2))

    def weights(self) -> Iterator[tuple[str, Floats]]:
        """Arrays by the names that `motion_model` reads, matrices as (in, out)."""

        def of(layer: Any, name: str) -> Iterator[tuple[str, Floats]]:
            weight = np.asarray(layer.weight.detach().numpy())
            if weight.ndim == 3:
                weight = weight.transpose(2, 1, 0)
                weight = weight[0] if len(weight) == 1 else weight
            yield f"{name}.w", weight
            yield f"{name}.b", np.asarray(layer.bias.detach().numpy())

        yield from of(self.enter, "in")
        for i, block in enumerate(self.blocks):
            for part in ("norm", "conv", "mix"):
                yield from of(getattr(block, part), f"{i}.{part}")
        yield from of(self.norm, "norm")
        columns = [CURVE_NAMES.index(name) for name in ENGINE_CURVES]
        for name, value in of(self.out, "out"):
            yield name, value[..., columns]


class TrainingExample:
    """A clip as tensors: voices (n, frames) standardised, times of the pictures in each, and
    curves (curves, pictures) z-scored."""

    def __init__(self, clip: TrainingClip, mean: Floats, std: Floats) -> None:
        self.clip = clip
        self.voices = [
            torch.from_numpy(((v.inputs.astype(np.float32) - mean) / std).T.copy())
            for v in clip.voices
        ]
        count = len(clip.mouth["opening"])
        self.times = [
            torch.arange(count) / clip.fps * voice.stretch / FRAME_SECONDS for voice in clip.voices
        ]
        curves = np.stack([clip.mouth[name] for name in CURVE_NAMES])
        curves = gaussian_filter1d(curves, SMOOTHING_SECONDS * clip.fps, axis=1, mode="nearest")
        curves -= curves.mean(1, keepdims=True)
        self.curves = torch.from_numpy(curves / (curves.std(1, keepdims=True) + 1e-6))


def interpolate(curves: Tensor, at: Tensor) -> Tensor:
    """Curves (c, frames) at fractional frames `at`, interpolated linearly."""
    count = curves.shape[-1]
    at = at.clamp(0, count - 1.001)
    left = at.floor().long()
    share = at - left
    return curves[:, left] * (1 - share) + curves[:, (left + 1).clamp(max=count - 1)] * share


def _correlation(one: Tensor, two: Tensor) -> Tensor:
    one, two = one - one.mean(-1, keepdim=True), two - two.mean(-1, keepdim=True)
    return (one * two).sum(-1) / torch.sqrt((one**2).sum(-1) * (two**2).sum(-1) + 1e-4)


def _loss(curves: Tensor, target: Tensor) -> Tensor:
    """Mean of squared error and 1 - correlation; the first two curves weigh four times as much as
    the others."""
    weights = torch.tensor([2.0, 2.0, *[0.5] * (len(CURVE_NAMES) - 2)])
    error = functional.mse_loss(curves, target, reduction="none").mean(1)
    each = 0.5 * error + 0.5 * (1 - _correlation(curves, target))
    return (each * weights).sum() / weights.sum()


def train(examples: list[TrainingExample], seed: int, epochs: int) -> Net:
    """Train one network. Clips are sampled with odds that favour speakers with little material."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net(examples[0].voices[0].shape[0])
    seconds: dict[str, float] = {}
    for m in examples:
        seconds[m.clip.speaker] = seconds.get(m.clip.speaker, 0) + m.clip.seconds
    odds = np.array([m.clip.seconds / seconds[m.clip.speaker] ** 0.5 for m in examples])
    steps = int(sum(seconds.values()) / 3 / BATCH_SIZE) * epochs
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    net.train()
    for _ in range(steps):
        chosen = [examples[i] for i in rng.choice(len(examples), BATCH_SIZE, p=odds / odds.sum())]
        excerpts = [_excerpt(m, rng) for m in chosen]
        length = max(voice.shape[1] for voice, _, _ in excerpts)
        inputs = torch.zeros(BATCH_SIZE, excerpts[0][0].shape[0], length)
        mask = torch.zeros(BATCH_SIZE, 1, length)
        for i, (voice, _, _) in enumerate(excerpts):
            inputs[i, :, : voice.shape[1]] = voice
            mask[i, :, : voice.shape[1]] = 1
        curves = net(inputs, mask)
        losses = [_loss(interpolate(curves[i, :, : voice.shape[1]], at), target)
                  for i, (voice, at, target) in enumerate(excerpts)]  # fmt: skip
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def _excerpt(example: TrainingExample, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """At most MAX_FRAMES of one of a clip's voices, with times and curves of its pictures."""
    which = int(rng.integers(len(example.voices)))
    voice, at, curves = example.voices[which], example.times[which], example.curves
    if voice.shape[1] > MAX_FRAMES:
        start = int(rng.integers(0, voice.shape[1] - MAX_FRAMES))
        inside = (at >= start) & (at < start + MAX_FRAMES - 1)
        voice, at, curves = (
            voice[:, start : start + MAX_FRAMES], at[inside] - start, curves[:, inside],
        )  # fmt: skip
    return voice, at, curves


@torch.no_grad()
def predict(networks: list[Net], example: TrainingExample) -> Floats:
    """Mean of the networks for the original voice, (curves, pictures)."""
    voice = example.voices[0]
    ones = torch.ones(1, 1, voice.shape[1])
    mean = torch.stack([net(voice[None], ones)[0] for net in networks]).mean(0)
    return interpolate(mean, example.times[0]).numpy()


def fit(
    tracks: Path, out: Path, held_out_path: Path | None, seeds: int, epochs: int
) -> Iterator[str]:
    """Fit `seeds` networks per fold on the speakers of the others. Writes all of them to `out` as
    one ensemble, and predictions for held-out speakers to `held_out_path`. Yields report lines."""
    torch.set_num_threads(1)
    clips = load(tracks, AUGMENTATIONS)
    inputs = [clip.voices[0].inputs.astype(np.float32) for clip in clips]
    mean = np.mean([i.mean(0) for i in inputs], axis=0)
    std = np.sqrt(np.mean([np.square(i - mean).mean(0) for i in inputs], axis=0))
    examples = [TrainingExample(clip, mean, std) for clip in clips]
    networks: list[Net] = []
    held_out: dict[str, Floats] = {}
    for fold in sorted({clip.fold for clip in clips}):
        fold_networks = [
            train([m for m in examples if m.clip.fold != fold], 100 * fold + seed, epochs)
            for seed in range(seeds)
        ]
        networks += fold_networks
        held_out |= {
            m.clip.name: predict(fold_networks, m) for m in examples if m.clip.fold == fold
        }
        yield f"fold {fold}: {len(fold_networks)} fitted"
    if held_out_path is not None:
        with held_out_path.open("wb") as file:
            np.savez(file, allow_pickle=False, **held_out)
    predicted_quantiles, real_quantiles = quantile_maps(clips, held_out, ENGINE_CURVES)
    arrays = {
        "curves": np.array(ENGINE_CURVES), "nets": np.array(len(networks)),
        "dilations": np.array(DILATIONS),
        "mean": mean, "spread": std, "heard": predicted_quantiles, "seen": real_quantiles,
    }  # fmt: skip
    for i, net in enumerate(networks):
        for name, value in net.weights():
            arrays |= _quantise(f"{i}:{name}", value)
    with out.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    yield f"{out}: {out.stat().st_size / 1e6:.2f} MB"
    yield from correlation_lines(clips, held_out)


def _quantise(name: str, value: Floats) -> dict[str, NDArray]:
    """A vector in 16 bits; a matrix (..., out) in 8, with a step size per output."""
    if value.ndim == 1:
        return {name: value.astype(np.float16)}
    step = np.abs(value).max(axis=tuple(range(value.ndim - 1))) / 127 + 1e-12
    return {name: np.rint(value / step).astype(np.int8), f"{name}.step": step.astype(np.float32)}

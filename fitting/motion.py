"""Networks from sound to mouth curves: fitted fold by fold, measured on speakers never heard."""

# pyright: reportMissingImports=false
# Torch is for fitting alone (requirements-fit.txt): the checks run without it.

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional

from fitting.figures import figures, knots
from fitting.tracks import LEARNT, Clip, load
from kolbo_demo.engine.phoneme_model import STEP

KEPT = ("opening", "width", "jaw", "pout")
"""The curves that the engine gets."""
CHANNELS, KERNEL, DILATIONS = 96, 5, (1, 2, 4, 8, 1, 2)
DROPOUT, INPUT_DROPOUT, RATE, DECAY = 0.2, 0.2, 2e-3, 0.02
BATCH, LONGEST = 8, 300
"""Clips a step, and frames (20 ms) of each."""
SMOOTH = 0.02
"""Seconds: landmarks jitter, so targets are smoothed by so much. The figures are on raw curves."""
VARIANTS = 3
"""Disturbed copies of each voice that are heard as well."""

Floats = NDArray[np.float32]


class Block(nn.Module):
    """Normalise, look around, mix, add."""

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
    """Inputs (batch, n, frames) to curves (batch, curves, frames); see `engine.motion`."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.drop = nn.Dropout1d(INPUT_DROPOUT)
        self.enter = nn.Conv1d(inputs, CHANNELS, 1)
        self.blocks = nn.ModuleList(Block(d) for d in DILATIONS)
        self.norm = nn.LayerNorm(CHANNELS)
        self.out = nn.Conv1d(CHANNELS, len(LEARNT), 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.enter(self.drop(x))
        for block in self.blocks:
            h = block(h, mask)
        return self.out(self.norm(h.transpose(1, 2)).transpose(1, 2))

    def weights(self) -> Iterator[tuple[str, Floats]]:
        """Arrays under the names that `engine.motion` reads, matrices as (in, out)."""

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
        kept = [LEARNT.index(name) for name in KEPT]
        for name, value in of(self.out, "out"):
            yield name, value[..., kept]


class Material:
    """A clip as tensors: voices (n, frames) standardised, where its pictures fall in each, and
    its curves z-scored (curves, pictures)."""

    def __init__(self, clip: Clip, mean: Floats, spread: Floats) -> None:
        self.clip = clip
        self.voices = [
            torch.from_numpy(((v.inputs.astype(np.float32) - mean) / spread).T.copy())
            for v in clip.voices
        ]
        count = len(clip.mouth["opening"])
        self.times = [
            torch.arange(count) / clip.fps * voice.stretch / STEP for voice in clip.voices
        ]
        curves = np.stack([clip.mouth[name] for name in LEARNT])
        curves = gaussian_filter1d(curves, SMOOTH * clip.fps, axis=1, mode="nearest")
        curves -= curves.mean(1, keepdims=True)
        self.curves = torch.from_numpy(curves / (curves.std(1, keepdims=True) + 1e-6))


def sampled(curves: Tensor, at: Tensor) -> Tensor:
    """Curves (c, frames) at fractional frames `at`, linearly."""
    count = curves.shape[-1]
    at = at.clamp(0, count - 1.001)
    left = at.floor().long()
    share = at - left
    return curves[:, left] * (1 - share) + curves[:, (left + 1).clamp(max=count - 1)] * share


def _likeness(one: Tensor, two: Tensor) -> Tensor:
    one, two = one - one.mean(-1, keepdim=True), two - two.mean(-1, keepdim=True)
    return (one * two).sum(-1) / torch.sqrt((one**2).sum(-1) * (two**2).sum(-1) + 1e-4)


def _loss(curves: Tensor, wanted: Tensor) -> Tensor:
    """Half squared error, half what is missing to a correlation of 1; the first two curves count
    four times as much as the others."""
    weights = torch.tensor([2.0, 2.0, *[0.5] * (len(LEARNT) - 2)])
    error = functional.mse_loss(curves, wanted, reduction="none").mean(1)
    each = 0.5 * error + 0.5 * (1 - _likeness(curves, wanted))
    return (each * weights).sum() / weights.sum()


def train(material: list[Material], seed: int, epochs: int) -> Net:
    """One network. Speakers with much material count less for each second of it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net(material[0].voices[0].shape[0])
    seconds: dict[str, float] = {}
    for m in material:
        seconds[m.clip.speaker] = seconds.get(m.clip.speaker, 0) + m.clip.seconds
    odds = np.array([m.clip.seconds / seconds[m.clip.speaker] ** 0.5 for m in material])
    steps = int(sum(seconds.values()) / 3 / BATCH) * epochs
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps, pct_start=0.2
    )
    net.train()
    for _ in range(steps):
        chosen = [material[i] for i in rng.choice(len(material), BATCH, p=odds / odds.sum())]
        pieces = [_piece(m, rng) for m in chosen]
        length = max(voice.shape[1] for voice, _, _ in pieces)
        inputs = torch.zeros(BATCH, pieces[0][0].shape[0], length)
        mask = torch.zeros(BATCH, 1, length)
        for i, (voice, _, _) in enumerate(pieces):
            inputs[i, :, : voice.shape[1]] = voice
            mask[i, :, : voice.shape[1]] = 1
        curves = net(inputs, mask)
        losses = [_loss(sampled(curves[i, :, : voice.shape[1]], at), wanted)
                  for i, (voice, at, wanted) in enumerate(pieces)]  # fmt: skip
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def _piece(m: Material, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """At most LONGEST frames of one of a clip's voices, with its pictures' times and curves."""
    which = int(rng.integers(len(m.voices)))
    voice, at, curves = m.voices[which], m.times[which], m.curves
    if voice.shape[1] > LONGEST:
        start = int(rng.integers(0, voice.shape[1] - LONGEST))
        inside = (at >= start) & (at < start + LONGEST - 1)
        voice, at, curves = (
            voice[:, start : start + LONGEST], at[inside] - start, curves[:, inside],
        )  # fmt: skip
    return voice, at, curves


@torch.no_grad()
def predicted(nets: list[Net], m: Material) -> Floats:
    """Curves (curves, pictures) for the undisturbed voice: the mean of the networks."""
    voice = m.voices[0]
    ones = torch.ones(1, 1, voice.shape[1])
    mean = torch.stack([net(voice[None], ones)[0] for net in nets]).mean(0)
    return sampled(mean, m.times[0]).numpy()


def fit(
    tracks: Path, out: Path, unheard_out: Path | None, seeds: int, epochs: int
) -> Iterator[str]:
    """Fits `seeds` networks for each fold, on the speakers of the others; writes all of them to
    `out` as one ensemble, and what each fold's own predict for its speakers to `unheard_out`.
    Yields the figures, line by line."""
    torch.set_num_threads(1)
    clips = load(tracks, VARIANTS)
    inputs = [clip.voices[0].inputs.astype(np.float32) for clip in clips]
    mean = np.mean([i.mean(0) for i in inputs], axis=0)
    spread = np.sqrt(np.mean([np.square(i - mean).mean(0) for i in inputs], axis=0))
    material = [Material(clip, mean, spread) for clip in clips]
    nets: list[Net] = []
    unheard: dict[str, Floats] = {}
    for fold in sorted({clip.fold for clip in clips}):
        own = [
            train([m for m in material if m.clip.fold != fold], 100 * fold + seed, epochs)
            for seed in range(seeds)
        ]
        nets += own
        unheard |= {m.clip.name: predicted(own, m) for m in material if m.clip.fold == fold}
        yield f"fold {fold}: {len(own)} fitted"
    if unheard_out is not None:
        with unheard_out.open("wb") as file:
            np.savez(file, allow_pickle=False, **unheard)
    heard_at, millimetres = knots(clips, unheard, KEPT)
    arrays = {
        "curves": np.array(KEPT), "nets": np.array(len(nets)), "dilations": np.array(DILATIONS),
        "mean": mean, "spread": spread, "heard": heard_at, "seen": millimetres,
    }  # fmt: skip
    for i, net in enumerate(nets):
        for name, value in net.weights():
            arrays |= _packed(f"{i}:{name}", value)
    with out.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    yield f"{out}: {out.stat().st_size / 1e6:.2f} MB"
    yield from figures(clips, unheard)


def _packed(name: str, value: Floats) -> dict[str, NDArray]:
    """A vector in 16 bits; a matrix (..., out) in 8, in steps of a size of each output's own."""
    if value.ndim == 1:
        return {name: value.astype(np.float16)}
    step = np.abs(value).max(axis=tuple(range(value.ndim - 1))) / 127 + 1e-12
    return {name: np.rint(value / step).astype(np.int8), f"{name}.step": step.astype(np.float32)}

"""How well the judge tells good lips from bad.

On what ships: the engine's own render and the sample clip, as they are and spoiled in known ways.
With KOLBO_MEDIA naming a folder of real recordings (`tracks/`, `clips/`), also on real people, by
models that never heard the speaker.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import spoil
from fitting.judge import Track, calibrate, choose_symbols, figures, solve, tracks, trials
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.render import render
from kolbo_demo.engine.speech_features import HOP, RATE
from kolbo_demo.engine.sync_eval.audio_model import Array, Model, hear
from kolbo_demo.engine.sync_eval.judge import Report, verdict_on
from kolbo_demo.engine.sync_eval.lip_motion import Seen, watch
from kolbo_demo.engine.sync_eval.measures import Floats
from kolbo_demo.engine.video_reader import Clip

ASSETS = Path(__file__).parents[1] / "assets"
SHIFT_FRAMES = 5
FRAME_MS = 40
"""By how much the offset found may be wrong."""
AUC = 0.98
"""Of right sounds against another's, on pieces of LONG_ENOUGH."""
MOVED = f"moved by {SHIFT_FRAMES} frames, error of the offset in ms"
LOUDNESS = "mouth follows loudness only"
LONG_ENOUGH = 5.0
"""Seconds of speech from which an offset is to be found to one frame."""
TALKING = 2.9
"""Seconds of a track from which its articulation is counted: two words and more."""


def measure() -> dict:
    """Verdicts on material that is shipped, and on real people if there are any."""
    out: dict = {"shipped": _shipped()}
    if media := os.environ.get("KOLBO_MEDIA"):
        out |= _real(Path(media))
    return out


def missed(figures: dict) -> list[str]:
    """The targets that were not met: on what ships, and on real people if there were any."""
    found = []
    for name, row in figures["shipped"].items():
        told = {
            "its own sound is called in step": row["as it is"]["verdict"] == "in step",
            "another sound is not": row["another sound"]["verdict"] != "in step",
            "a still picture is recognised": row["still picture"] == "still picture",
            "loudness is recognised": row["mouth that opens with loudness"] == LOUDNESS,
            "a blurred mouth is noticed": row["blurred mouth noticed"],
            "a shift is found": max(map(abs, row[MOVED])) <= FRAME_MS,
        }
        found += [f"{name}: {what}" for what, so in told.items() if not so]
    if real := figures.get("tracks, speakers never heard"):
        auc = real["right_or_wrong_sound"][f"{LONG_ENOUGH:g} s"]["auc_offset_unknown"]
        found += [] if auc >= AUC else [f"right and another's sound told apart at {auc}"]
    return found


def _shipped() -> dict:
    voice, clip = ASSETS / "speech.wav", ASSETS / "clip.mp4"
    model = Model.load()
    with tempfile.TemporaryDirectory() as folder:
        rendered = Path(folder) / "rendered.mp4"
        render(ASSETS / "portrait.jpg", voice, rendered)
        return {
            "render of portrait.jpg": _row(rendered, voice, clip, model, Path(folder)),
            "clip.mp4": _row(clip, clip, voice, model, Path(folder)),
        }


def _row(video: Path, voice: Path, other: Path, model: Model, folder: Path) -> dict:
    """One video with its own sound, moved sounds, another's sound, and spoiled."""
    seen, wave = watch(video), load_voice(voice, RATE)
    straight = _heard(seen, wave, model)
    moved = []
    for frames in (-SHIFT_FRAMES, SHIFT_FRAMES):
        by = frames / seen.fps
        report = _heard(seen, spoil.shifted(wave, by), model)
        moved.append(round(_offset(report) - _offset(straight) + 1000 * by))
    with Clip(video) as frames_of:
        picture = next(frames_of.frames(1))
    spoiled = {
        "still": spoil.still(video, voice, folder / "still.mp4"),
        "loudness": spoil.loudness_mouth(picture, voice, folder / "loudness.mp4"),
        "blurred": spoil.blurred(video, voice, folder / "blurred.mp4"),
    }
    reports = {name: _heard(watch(path), wave, model) for name, path in spoiled.items()}
    swapped = _heard(seen, load_voice(other, RATE), model)
    return {
        "as it is": straight.summary(),
        MOVED: moved,
        "another sound": {"verdict": swapped.verdict, "confidence": round(swapped.confidence, 3)},
        "still picture": reports["still"].verdict,
        "mouth that opens with loudness": reports["loudness"].verdict,
        "blurred mouth noticed": "the mouth is blurred" in reports["blurred"].notes,
        "sharpness, blurred sharpness": [straight.sharpness, reports["blurred"].sharpness],
    }


def _heard(seen: Seen, wave: Array, model: Model) -> Report:
    return verdict_on(seen, hear(wave), model)


def _offset(report: Report) -> float:
    return np.nan if report.offset_ms is None else report.offset_ms


def _real(media: Path) -> dict:
    heard = tracks(media / "tracks")
    models = solve(heard, choose_symbols(heard))
    tried = list(trials(heard, models))
    models = [replace(model, trust=calibrate(tried)) for model in models]
    return {
        "tracks, speakers never heard": figures(heard, models, tried)
        | {
            f"moved by {SHIFT_FRAMES} frames, {LONG_ENOUGH} s and more": _moved(heard, models),
            "articulation of real people": _articulation(heard, models),
            "recognised": _recognised(heard, models),
        },
        "clips, speakers never heard": dict(_clips(media, models)),
    }


def _moved(heard: list[Track], models: list[Model]) -> dict:
    """Lips held against their own sound, moved either way."""
    errors, names = [], []
    for track in heard:
        if track.seconds < LONG_ENOUGH:
            continue
        names.append(track.name)
        for frames in (-SHIFT_FRAMES, 0, SHIFT_FRAMES):
            hops = round(frames / track.seen.fps / HOP)
            sound = track.sound
            moved = replace(
                sound,
                level=np.roll(sound.level, hops),
                mel=np.roll(sound.mel, hops, axis=0),
                posteriors=np.roll(sound.posteriors, hops // 2, axis=0),
            )
            report = verdict_on(track.seen, moved, models[track.fold])
            errors.append(abs(_offset(report) + 1000 * hops * HOP) * track.seen.fps / 1000)
    found = np.nan_to_num(np.array(errors), nan=np.inf).reshape(-1, 3)
    return {
        "clips": len(found),
        "within_1_frame": round(float((found[:, [0, 2]] <= 1.001).mean()), 3),
        "unmoved_within_1_frame": round(float((found[:, 1] <= 1.001).mean()), 3),
        "median_frames": round(float(np.median(found)), 2),
        "missed": [n for n, row in zip(names, found, strict=True) if row.max() > 1.001],
    }


def _articulation(heard: list[Track], models: list[Model]) -> dict:
    chosen = [track for track in heard if track.seconds >= TALKING]
    reports = [verdict_on(track.seen, track.sound, models[track.fold]) for track in chosen]
    spoken = np.array([report.closures for report in reports], float)
    total = max(float(spoken.sum()), 1.0)

    def pooled(values: list[float | None]) -> float:
        return round(float(np.array([v or 0.0 for v in values]) @ spoken / total), 3)

    hit = pooled([report.closures_hit for report in reports])
    chance = pooled([report.closures_chance for report in reports])
    rounding = [report.rounding for report in reports if report.rounding is not None]
    pauses = [report.pause_motion for report in reports if report.pause_motion is not None]
    return {
        "closures": int(total),
        "closures_hit": hit,
        "closures_by_chance": chance,
        "closures_over_chance": round(hit - chance, 3),
        "rounding_mean": round(float(np.mean(rounding)), 3),
        "pause_motion_median": round(float(np.median(pauses)), 3) if pauses else None,
        "verdicts": _counted([report.verdict for report in reports]),
        "not in step": [
            f"{track.name}: {report.verdict}"
            for track, report in zip(chosen, reports, strict=True)
            if not report.in_step
        ],
    }


def _counted(verdicts: list[str]) -> dict[str, int]:
    plain = ["out of step" if v.endswith((" late", " early")) else v for v in verdicts]
    return {verdict: plain.count(verdict) for verdict in sorted(set(plain))}


def _recognised(heard: list[Track], models: list[Model]) -> dict:
    """Verdicts on real sounds with lips that stand still, or only open with loudness."""
    random = np.random.default_rng(0)
    still, puppets = [], []
    for track in (track for track in heard if track.seconds >= TALKING):
        count = len(track.seen.lips)
        noise = 0.003 * random.standard_normal((count, 3))
        frozen = replace(track.seen, lips=track.seen.lips[:1] + noise)
        still.append(verdict_on(frozen, track.sound, models[track.fold]).verdict)
        lips = np.tile(track.seen.lips.mean(0), (count, 1)) + noise
        lips[:, 0] = 0.12 * _loudness(track, int(random.integers(2, 9))) + noise[:, 0]
        lips[:, 2] += 0.8 * lips[:, 0]
        puppet = replace(track.seen, lips=lips)
        puppets.append(verdict_on(puppet, track.sound, models[track.fold]).verdict)
    return {"still lips": _counted(still), "lips that open with loudness": _counted(puppets)}


def _loudness(track: Track, reach: int) -> Floats:
    level = track.sound.level
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    up = np.clip(level - np.percentile(level, 95) + 25, 0, 27) / 25
    smooth = np.convolve(up, kernel, "same")
    return np.interp(track.seen.times, np.arange(len(smooth)) * HOP, smooth)


def _clips(media: Path, models: list[Model]) -> Iterator[tuple[str, dict]]:
    """Real clips in pixels; `tracks/index.json` tells whose they are."""
    entries = json.loads((media / "tracks" / "index.json").read_text())
    folds = {Path(entry["source_path"]).stem: entry["fold"] for entry in entries}
    folds |= {entry["name"]: entry["fold"] for entry in entries}
    clips = sorted(p for p in (media / "clips").iterdir() if p.suffix in {".mp4", ".mpg"})
    for index, clip in enumerate(clips):
        names = [n for n in folds if n.startswith(clip.stem) or n == clip.stem.split("_", 1)[1]]
        model = models[folds[names[0]]] if names else models[-1]
        other = clips[(index + len(clips) // 2) % len(clips)]
        with tempfile.TemporaryDirectory() as folder:
            sounds = (clip.with_suffix(".wav"), other.with_suffix(".wav"))
            yield clip.name, _row(clip, *sounds, model, Path(folder))

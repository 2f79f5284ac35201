"""Accuracy of the judge.

On the engine's render and the sample clip, unchanged and degraded in known ways. With KOLBO_MEDIA,
a folder of real recordings (`tracks/`, `clips/`), also on real people, by models fitted without the
speaker.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import degrade
from fitting.judge import (
    Track,
    calibrate,
    choose_tokens,
    figures,
    fit_models,
    load_tracks,
    make_trials,
)
from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.render import render
from kolbo_demo.engine.speech_features import HOP_SECONDS, SAMPLE_RATE
from kolbo_demo.engine.sync_eval.audio_model import Array, LipModel, extract_sound_features
from kolbo_demo.engine.sync_eval.judge import SyncReport, judge_features
from kolbo_demo.engine.sync_eval.lip_motion import LipMotion, extract_lip_motion
from kolbo_demo.engine.sync_eval.measures import Floats
from kolbo_demo.engine.video_reader import Clip

SHIFT_FRAMES = 5
FRAME_MS = 40
"""Largest error of an offset."""
MIN_AUC = 0.98
"""Of matching sounds against others, on excerpts of MIN_OFFSET_SECONDS."""
SHIFT_KEY = f"moved by {SHIFT_FRAMES} frames, error of the offset in ms"
LOUDNESS_VERDICT = "mouth follows loudness only"
MIN_OFFSET_SECONDS = 5.0
"""Duration of speech from which offsets must be accurate to one frame."""
MIN_ARTICULATION_SECONDS = 2.9
"""Duration of tracks that are evaluated for articulation: two words and more."""


def measure() -> dict:
    """Results on shipped media, and on recordings if there are any."""
    out: dict = {"shipped": _shipped()}
    if media := os.environ.get("KOLBO_MEDIA"):
        out |= _measure_recordings(Path(media))
    return out


def missed(figures: dict) -> list[str]:
    misses = []
    for name, row in figures["shipped"].items():
        checks = {
            "its own sound is called in step": row["as it is"]["verdict"] == "in step",
            "another sound is not": row["another sound"]["verdict"] != "in step",
            "a still picture is recognised": row["still picture"] == "still picture",
            "loudness is recognised": row["mouth that opens with loudness"] == LOUDNESS_VERDICT,
            "a blurred mouth is noticed": row["blurred mouth noticed"],
            "a shift is found": max(map(abs, row[SHIFT_KEY])) <= FRAME_MS,
        }
        misses += [f"{name}: {check}" for check, passed in checks.items() if not passed]
    if real := figures.get("tracks, speakers never heard"):
        auc = real["right_or_wrong_sound"][f"{MIN_OFFSET_SECONDS:g} s"]["auc_offset_unknown"]
        misses += [] if auc >= MIN_AUC else [f"AUC of matching and other sounds: {auc}"]
    return misses


def _shipped() -> dict:
    voice, clip = ASSETS / "speech.wav", ASSETS / "clip.mp4"
    model = LipModel.load()
    with tempfile.TemporaryDirectory() as folder:
        rendered = Path(folder) / "rendered.mp4"
        render(ASSETS / "portrait.jpg", voice, rendered)
        return {
            "render of portrait.jpg": _measure_video(rendered, voice, clip, model, Path(folder)),
            "clip.mp4": _measure_video(clip, clip, voice, model, Path(folder)),
        }


def _measure_video(video: Path, voice: Path, other: Path, model: LipModel, folder: Path) -> dict:
    """One video with its own, shifted and another sound, and degraded."""
    motion, wave = extract_lip_motion(video), load_voice(voice, SAMPLE_RATE)
    unshifted = _judge_wave(motion, wave, model)
    shift_errors = []
    for frames in (-SHIFT_FRAMES, SHIFT_FRAMES):
        by = frames / motion.fps
        report = _judge_wave(motion, degrade.shift_sound(wave, by), model)
        shift_errors.append(round(_offset(report) - _offset(unshifted) + 1000 * by))
    with Clip(video) as clip:
        picture = next(clip.frames(1))
    degraded = {
        "still": degrade.freeze(video, voice, folder / "still.mp4"),
        "loudness": degrade.animate_by_loudness(picture, voice, folder / "loudness.mp4"),
        "blurred": degrade.blur_mouth(video, voice, folder / "blurred.mp4"),
    }
    reports = {
        name: _judge_wave(extract_lip_motion(path), wave, model) for name, path in degraded.items()
    }
    other_sound = _judge_wave(motion, load_voice(other, SAMPLE_RATE), model)
    return {
        "as it is": unshifted.summary(),
        SHIFT_KEY: shift_errors,
        "another sound": {
            "verdict": other_sound.verdict,
            "confidence": round(other_sound.confidence, 3),
        },
        "still picture": reports["still"].verdict,
        "mouth that opens with loudness": reports["loudness"].verdict,
        "blurred mouth noticed": "the mouth is blurred" in reports["blurred"].notes,
        "sharpness, blurred sharpness": [unshifted.sharpness, reports["blurred"].sharpness],
    }


def _judge_wave(motion: LipMotion, wave: Array, model: LipModel) -> SyncReport:
    return judge_features(motion, extract_sound_features(wave), model)


def _offset(report: SyncReport) -> float:
    return np.nan if report.offset_ms is None else report.offset_ms


def _measure_recordings(media: Path) -> dict:
    tracks = load_tracks(media / "tracks")
    models = fit_models(tracks, choose_tokens(tracks))
    all_trials = list(make_trials(tracks, models))
    models = [replace(model, calibration=calibrate(all_trials)) for model in models]
    return {
        "tracks, speakers never heard": figures(tracks, models, all_trials)
        | {
            f"moved by {SHIFT_FRAMES} frames, {MIN_OFFSET_SECONDS} s and more": _shift_accuracy(
                tracks, models
            ),
            "articulation of real people": _articulation(tracks, models),
            "recognised": _detect_degraded(tracks, models),
        },
        "clips, speakers never heard": dict(_measure_clips(media, models)),
    }


def _shift_accuracy(tracks: list[Track], models: list[LipModel]) -> dict:
    """Accuracy of offsets of lips against their own sound, shifted either way."""
    errors, names = [], []
    for track in tracks:
        if track.seconds < MIN_OFFSET_SECONDS:
            continue
        names.append(track.name)
        for frames in (-SHIFT_FRAMES, 0, SHIFT_FRAMES):
            hops = round(frames / track.motion.fps / HOP_SECONDS)
            sound = track.sound
            shifted = replace(
                sound,
                level=np.roll(sound.level, hops),
                mel=np.roll(sound.mel, hops, axis=0),
                posteriors=np.roll(sound.posteriors, hops // 2, axis=0),
            )
            report = judge_features(track.motion, shifted, models[track.fold])
            errors.append(
                abs(_offset(report) + 1000 * hops * HOP_SECONDS) * track.motion.fps / 1000
            )
    errors_by_clip = np.nan_to_num(np.array(errors), nan=np.inf).reshape(-1, 3)
    return {
        "clips": len(errors_by_clip),
        "within_1_frame": round(float((errors_by_clip[:, [0, 2]] <= 1.001).mean()), 3),
        "unmoved_within_1_frame": round(float((errors_by_clip[:, 1] <= 1.001).mean()), 3),
        "median_frames": round(float(np.median(errors_by_clip)), 2),
        "missed": [n for n, row in zip(names, errors_by_clip, strict=True) if row.max() > 1.001],
    }


def _articulation(tracks: list[Track], models: list[LipModel]) -> dict:
    chosen = [track for track in tracks if track.seconds >= MIN_ARTICULATION_SECONDS]
    reports = [judge_features(track.motion, track.sound, models[track.fold]) for track in chosen]
    closures = np.array([report.closures for report in reports], float)
    total = max(float(closures.sum()), 1.0)

    def pooled(values: list[float | None]) -> float:
        return round(float(np.array([v or 0.0 for v in values]) @ closures / total), 3)

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
        "verdicts": _count_verdicts([report.verdict for report in reports]),
        "not in step": [
            f"{track.name}: {report.verdict}"
            for track, report in zip(chosen, reports, strict=True)
            if not report.in_step
        ],
    }


def _count_verdicts(verdicts: list[str]) -> dict[str, int]:
    kinds = ["out of step" if v.endswith((" late", " early")) else v for v in verdicts]
    return {verdict: kinds.count(verdict) for verdict in sorted(set(kinds))}


def _detect_degraded(tracks: list[Track], models: list[LipModel]) -> dict:
    """Verdicts on real sounds with frozen lips, and with lips that open with loudness."""
    random = np.random.default_rng(0)
    still_verdicts, puppet_verdicts = [], []
    for track in (track for track in tracks if track.seconds >= MIN_ARTICULATION_SECONDS):
        count = len(track.motion.lips)
        noise = 0.003 * random.standard_normal((count, 3))
        frozen = replace(track.motion, lips=track.motion.lips[:1] + noise)
        still_verdicts.append(judge_features(frozen, track.sound, models[track.fold]).verdict)
        lips = np.tile(track.motion.lips.mean(0), (count, 1)) + noise
        lips[:, 0] = 0.12 * _loudness(track, int(random.integers(2, 9))) + noise[:, 0]
        lips[:, 2] += 0.8 * lips[:, 0]
        puppet = replace(track.motion, lips=lips)
        puppet_verdicts.append(judge_features(puppet, track.sound, models[track.fold]).verdict)
    return {
        "still lips": _count_verdicts(still_verdicts),
        "lips that open with loudness": _count_verdicts(puppet_verdicts),
    }


def _loudness(track: Track, reach: int) -> Floats:
    level = track.sound.level
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    up = np.clip(level - np.percentile(level, 95) + 25, 0, 27) / 25
    smooth = np.convolve(up, kernel, "same")
    return np.interp(track.motion.times, np.arange(len(smooth)) * HOP_SECONDS, smooth)


def _measure_clips(media: Path, models: list[LipModel]) -> Iterator[tuple[str, dict]]:
    """Real clips; `tracks/index.json` maps them to folds."""
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
            yield clip.name, _measure_video(clip, *sounds, model, Path(folder))

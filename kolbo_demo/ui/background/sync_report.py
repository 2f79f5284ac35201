"""How well a result's lips fit its sound: measured on the finished video, told in words and a plot.

The judge looks at the pixels and hears the sound of the file, in a process of its own. It knows
nothing of what made the video, so the cloud's results and the local engine's are measured alike.
"""

import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from kolbo_demo.credentials import CredentialsError
from kolbo_demo.credentials.reading import read
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.engine import EngineError
from kolbo_demo.engine.sync_eval.process import judge_in_process
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.generation_store import REPORT, RESULT, GenerationStore, Record

SECOND_PIXELS = 90
LEAST_PIXELS, MOST_PIXELS = 520, 20_000
HEIGHT, MARGIN = 176, 6
WIDTH_FLOOR, OPENING_TOP, SOUND_TOP, FOOT = 34, 48, 128, 160
"""Vertical places in the plot, in pixels: mouth width, mouth opening, sound, and below it the
time."""
LOUD_DB, SILENT_DB = -10.0, -60.0
POINTS = 4000
"""A line has at most."""

_ISOLATE, _END_ISOLATE = "\u2066", "\u2069"
"""Keep a signed number in order in a text from right to left."""

Report = dict[str, Any]
Curve = Sequence[float | None]

_VERDICTS = {
    "in step": "in_step",
    "no face": "no_face",
    "still picture": "still",
    "lips do not move": "no_motion",
    "no speech found": "no_speech",
    "mouth follows loudness only": "loudness",
    "too short to tell": "short",
    "lips do not follow this sound": "other_sound",
}
_NOTES = {
    "the mouth is blurred": "blurred",
    "the face trembles": "trembles",
    "the lips move in pauses": "pauses",
    "lips stay open at p, b and m": "open",
}

_log = logging.getLogger(__name__)


class Reports:
    """Measures one result after another: each keeps a core busy."""

    def __init__(self, store: GenerationStore, signer: Signer | None = None) -> None:
        """`signer` tells results of this installation from others."""
        self._store = store
        self._signer = signer
        self._lock = threading.Lock()
        self._queued: set[str] = set()
        self._queue: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def of(self, record: Record) -> Report | None:
        """The report, or None while it is being made: the first who asks has it made."""
        path = self._store.file(record.ticket, REPORT)
        if path is not None:
            try:
                return json.loads(path.read_bytes())
            except (OSError, ValueError):
                path.unlink(missing_ok=True)
        self.ask(record)
        return None

    def ask(self, record: Record) -> None:
        """Has the report made, unless somebody has asked before."""
        with self._lock:
            if record.ticket in self._queued:
                return
            self._queued.add(record.ticket)
            self._queue.put(record)
            if self._worker is None:
                self._worker = threading.Thread(
                    target=self._work, name="kolbo-page-reports", daemon=True
                )
                self._worker.start()

    def _work(self) -> None:
        while True:
            record = self._queue.get()
            video = self._store.file(record.ticket, RESULT)
            try:
                made: Report = {"error": "gone"}
                if video:
                    made = judge_in_process(video, record.options.face)
            except EngineError as error:
                made = {"error": str(error)}
            except Exception:  # noqa: BLE001 - the next one is measured all the same
                _log.exception("A result could not be measured")
                made = {"error": "failed"}
            if video and (found := self._credentials(video)):
                made["credentials"] = found
            self._store.write(record.ticket, REPORT, json.dumps(made).encode())
            with self._lock:
                self._queued.discard(record.ticket)

    def _credentials(self, video: Path) -> Report | None:
        """How the result says that it is AI-generated, as it is stored."""
        try:
            return asdict(read(video, self._signer.chain() if self._signer else None))
        except CredentialsError:
            return None


def verdict(report: Report) -> str:
    """In a few words of the visitor's language."""
    if "error" in report:
        return say("sync.not_measured")
    text = str(report["verdict"])
    if found := re.fullmatch(r"(\d+) ms (late|early)", text):
        return say(f"sync.{found[2]}", ms=found[1])
    return say(f"sync.{_VERDICTS[text]}") if text in _VERDICTS else text


def facts(report: Report) -> list[tuple[str, str]]:
    """Measurements and AI marks of the file, as names and values; unknown ones are left out."""
    return [*_measured(report), *_marks(report)]


def _marks(report: Report) -> list[tuple[str, str]]:
    """How the file says that it is AI-generated."""
    found = report.get("credentials")
    if not found:
        return []
    signer = say("verify.own" if found["own"] else "verify.unknown", name=found["signer"])
    state = say(f"verify.{found['state']}")
    rows = {
        "verify.credentials": f"{state} {signer}" if found["signer"] else state,
        "verify.source_type": found["source_type"],
        "verify.mark": found["visible_mark"],
        "verify.comment": found["comment"],
    }
    return [(say(name), value) for name, value in rows.items() if value]


def _measured(report: Report) -> list[tuple[str, str]]:
    if "error" in report:
        return []
    found: list[tuple[str, str]] = []
    if report["offset_ms"] is not None:
        found += [
            (say("sync.offset"), f"{report['offset_ms']:+d} ms"),
            (say("sync.confidence"), f"{report['confidence']:.0%}"),
        ]
    if report["closures"]:
        hit = round(report["closures"] * report["closures_hit"])
        found.append((say("sync.closures"), say("sync.hit_of", hit=hit, spoken=report["closures"])))
    found.append((say("sync.face"), f"{report['face']:.0%}"))
    return found


def widest_opening(report: Report) -> float:
    """Second of the result in which the mouth is opened widest; 0 where that was not measured."""
    if "error" in report:
        return 0.0
    aperture = [value or 0.0 for value in report["curves"]["aperture"]]
    return max(range(len(aperture)), key=aperture.__getitem__, default=0) / report["fps"]


def view(report: Report | None) -> str:
    """The report as HTML: one sentence and the plot. None while it is being made."""
    if report is None:
        return f'<div class="sync measuring"><p>{escape(say("sync.measuring"))}</p></div>'
    good = "good" if report.get("verdict") == "in step" else "other"
    notes = [say(f"sync.note_{_NOTES[note]}") for note in report.get("notes", ()) if note in _NOTES]
    below = f'<p class="note">{escape("; ".join(notes))}</p>' if notes else ""
    verdict = f'<p class="verdict {good}">{escape(summary(report))}</p>{below}'
    if "error" not in report:
        title, more = escape(say("sync.title")), plot(report)
        if found := report.get("credentials"):
            state = say(f"verify.{found['state']}")
            more += f'<p class="note">{escape(say("verify.credentials"))}: {escape(state)}</p>'
        verdict += f'<details class="fold"><summary>{title}</summary>{more}</details>'
    return f'<div class="sync">{verdict}</div>'


def summary(report: Report) -> str:
    """One sentence in the visitor's language."""
    if report.get("verdict") != "in step":
        return verdict(report)
    return say("sync.agree", ms=f"{_ISOLATE}{report['offset_ms']:+d}{_END_ISOLATE}")


def plot(report: Report) -> str:
    """Mouth and sound over time as an SVG that scrolls where it is long, beside the names of its
    axes. A click on it seeks the video."""
    curves, fps = report["curves"], report["fps"]
    seconds = max(report["seconds"], 0.1)
    width = min(max(SECOND_PIXELS * seconds, LEAST_PIXELS), MOST_PIXELS)

    def x(time: float) -> float:
        return time / seconds * width

    def x_of(index: float) -> float:
        return x(index / fps)

    floor = SOUND_TOP - MARGIN
    aperture = _line(curves["aperture"], x_of, _between(curves["aperture"], OPENING_TOP, floor))
    across = _line(curves["width"], x_of, _between(curves["width"], MARGIN, WIDTH_FLOOR))
    expected = _line(curves["expected"], x_of, _between(curves["expected"], OPENING_TOP, floor))
    sound = _area(curves["level"], x_of)
    marks = "".join(
        f'<line class="{"met" if met else "missed"}" x1="{x(at):.1f}" x2="{x(at):.1f}" '
        f'y1="{OPENING_TOP - 4}" y2="{FOOT}"/>'
        for at, met in zip(curves["closure_times"], curves["closure_met"], strict=True)
    )
    every = next(step for step in (1, 2, 5, 10, 30, 60) if step * width / seconds >= 45)
    ticks = "".join(
        f'<text x="{x(at) + 2:.1f}" y="{HEIGHT - 3}">{at} s</text>'
        for at in range(0, int(seconds) + 1, every)
    )
    label = escape(say("sync.plot", verdict=verdict(report)), quote=True)
    axes = "".join(
        f'<span style="top:{top}px">{escape(say(f"sync.axis_{name}"))}</span>'
        for name, top in (
            ("width", MARGIN),
            ("opening", OPENING_TOP + 20),
            ("loudness", SOUND_TOP + 4),
            ("time", FOOT + 2),
        )
    )
    kinds = (*(("expected",) if expected else ()), "met", "missed")
    legend = "".join(
        f'<li class="{kind}">{escape(say(f"sync.line_{kind}"))}</li>' for kind in kinds
    )
    return (
        f'<div class="plot"><div class="axes" aria-hidden="true">{axes}</div>'
        f'<div class="curves" tabindex="0" role="group" aria-label="{label}">'
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width:.0f} {HEIGHT}" '
        f'data-seconds="{seconds:.3f}" style="width:{width:.0f}px;height:{HEIGHT}px">'
        f'<path class="sound" d="{sound}"/>{marks}<path class="expected" d="{expected}"/>'
        f'<path class="width" d="{across}"/><path class="aperture" d="{aperture}"/>{ticks}'
        f'<line class="now" x1="0" x2="0" y1="0" y2="{HEIGHT}"/></svg></div></div>'
        f'<ul class="legend">{legend}</ul>'
    )


def _between(curve: Curve, top: float, floor: float) -> Callable[[float], float]:
    """Where a value of the curve is drawn: its least at `floor`, its most at `top`."""
    known = [value for value in curve if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    scale = (floor - top) / ((high - low) or 1.0)
    return lambda value: floor - (value - low) * scale


def _line(curve: Curve, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """An SVG path that leaves out what is not known."""
    step = max(1, -(-len(curve) // POINTS))
    parts, pen = [], "M"
    for index in range(0, len(curve), step):
        value = curve[index]
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x(index):.1f} {y(value):.1f}")
        pen = "L"
    return "".join(parts)


def _area(level: Curve, x: Callable[[float], float]) -> str:
    """The sound's loudness as a closed shape at the foot."""
    step = max(1, -(-len(level) // POINTS))
    points = []
    for index in range(0, len(level), step):
        loud = ((level[index] or SILENT_DB) - SILENT_DB) / (LOUD_DB - SILENT_DB)
        points.append(f"L{x(index):.1f} {FOOT - (FOOT - SOUND_TOP) * min(max(loud, 0.0), 1.0):.1f}")
    return f"M0 {FOOT}{''.join(points)}L{x(max(len(level) - 1, 0)):.1f} {FOOT}Z" if points else ""

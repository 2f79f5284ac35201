"""The cost of one call of the command line, beside that of the engine alone on the same files.

Wall and processor seconds of `generate --local` with all the processes that it starts, for one and
eight seconds of speech on a portrait of 512x512. The floor is the same render in this process, with
the engine loaded. The two alternate, since machines are noisy; the minimum of each is reported.
"""

import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

from kolbo_demo.engine.render import render

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "assets"
SECONDS = (1.0, 8.0)
ROUNDS = 3
TARGETS = {1.0: {"wall": 2.5, "processor": 1.5}, 8.0: {"wall": 8.0}}
"""At most, in seconds, with nothing else running."""

Figures = dict[str, dict[str, float]]


def measure() -> Figures:
    """Seconds of speech to `wall` and `processor` seconds, and those of the `floor`."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seconds in SECONDS:
            voice = _voice(folder, seconds)
            ours, floor = list[tuple[float, float]](), list[tuple[float, float]]()
            for _ in range(ROUNDS):
                ours.append(_timed(lambda voice=voice: _command(voice, folder)))
                floor.append(_timed(lambda voice=voice: _engine(voice, folder)))
            figures[f"{seconds:g} s"] = {
                "wall": min(wall for wall, _ in ours),
                "processor": min(processor for _, processor in ours),
                "floor_wall": min(wall for wall, _ in floor),
                "floor_processor": min(processor for _, processor in floor),
            }
    return figures


def missed(figures: Figures) -> list[str]:
    """Sentences about targets that were missed."""
    return [
        f"{seconds:g} s of speech take {took:.1f} s of {what}, wanted is {most:g}"
        for seconds, targets in TARGETS.items()
        for what, most in targets.items()
        if (took := figures[f"{seconds:g} s"][what]) > most
    ]


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds, of this process and its children."""
    wall, processor = time.monotonic(), _processor()
    work()
    return round(time.monotonic() - wall, 2), round(_processor() - processor, 2)


def _processor() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _command(voice: Path, folder: Path) -> None:
    words = ("--source", str(ASSETS / "portrait.jpg"), "--audio", str(voice))
    subprocess.run(
        [
            *(sys.executable, "-m", "kolbo_demo", "generate", "--local", *words),
            *("--output", str(folder / "command.mp4")),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )


def _engine(voice: Path, folder: Path) -> None:
    render(ASSETS / "portrait.jpg", voice, folder / "engine.mp4")


def _voice(folder: Path, seconds: float) -> Path:
    """A WAV of so much of the sample's speech, from its beginning again where that ends."""
    made = folder / f"{seconds:g}.wav"
    with wave.open(str(ASSETS / "speech.wav")) as source, wave.open(str(made), "wb") as target:
        target.setparams(source.getparams())
        left = round(seconds * source.getframerate())
        while left > 0:
            source.rewind()
            taken = min(left, source.getnframes())
            target.writeframes(source.readframes(taken))
            left -= taken
    return made

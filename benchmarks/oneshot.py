"""Cost of one command-line call against the engine alone on the same files.

Wall and CPU seconds of `generate --local` with its child processes, for one and eight seconds of
speech on a 512x512 portrait. The floor is the same render in this process, with the engine loaded.
Both alternate, since machines are noisy; the minimum of each is reported.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.media import PORTRAIT, make_voice
from kolbo_demo.engine.render import render

ROOT = Path(__file__).parents[1]
SECONDS = (1.0, 8.0)
ROUNDS = 3
TARGETS = {1.0: {"wall": 2.5, "processor": 1.5}, 8.0: {"wall": 8.0}}
"""Upper bounds in seconds, on an idle machine."""

Figures = dict[str, dict[str, float]]


def measure() -> Figures:
    """`wall` and `processor` seconds by seconds of speech, and those of the floor."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seconds in SECONDS:
            voice = make_voice(folder / f"{seconds:g}.wav", seconds)
            ours, floor = list[tuple[float, float]](), list[tuple[float, float]]()
            for _ in range(ROUNDS):
                ours.append(_measure_seconds(lambda voice=voice: _run_command(voice, folder)))
                floor.append(_measure_seconds(lambda voice=voice: _run_engine(voice, folder)))
            figures[f"{seconds:g} s"] = {
                "wall": min(wall for wall, _ in ours),
                "processor": min(processor for _, processor in ours),
                "floor_wall": min(wall for wall, _ in floor),
                "floor_processor": min(processor for _, processor in floor),
            }
    return figures


def missed(figures: Figures) -> list[str]:
    return [
        f"{seconds:g} s of speech take {took:.1f} s of {what}, the target is {most:g}"
        for seconds, targets in TARGETS.items()
        for what, most in targets.items()
        if (took := figures[f"{seconds:g} s"][what]) > most
    ]


def _measure_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process and its children."""
    wall, processor = time.monotonic(), _cpu_seconds()
    work()
    return round(time.monotonic() - wall, 2), round(_cpu_seconds() - processor, 2)


def _cpu_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _run_command(voice: Path, folder: Path) -> None:
    inputs = ("--source", str(PORTRAIT), "--audio", str(voice))
    subprocess.run(
        [
            *(sys.executable, "-m", "kolbo_demo", "generate", "--local", *inputs),
            *("--output", str(folder / "command.mp4")),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )


def _run_engine(voice: Path, folder: Path) -> None:
    render(PORTRAIT, voice, folder / "engine.mp4")

"""Ten minutes of speech against one, and time to first progress.

Each render runs in a process of its own. Memory of its process tree is polled from /proc; pages
shared by several processes count once.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.media import PORTRAIT, SPEECH, make_clip, make_still, make_voice
from benchmarks.process_stats import memory_mb
from kolbo_demo.client.client import KolboClient
from kolbo_demo.service.app import serving
from kolbo_demo.settings import Settings

SIDE = 256
"""Pixels: small, to bound the time of ten minutes of speech."""
MEMORY_POLL_SECONDS = 0.05
SUBMIT_INTERVAL_SECONDS = 2.0

_RENDER = """
import sys
from pathlib import Path
from kolbo_demo.engine import unavailable_reason
from kolbo_demo.engine.render import render
assert unavailable_reason() is None
print("ready", flush=True)
sys.stdin.readline()
render(*map(Path, sys.argv[1:4]))
print("done", flush=True)
"""


def long_against_short(minutes: int = 10) -> list[dict]:
    """Seconds and peak memory in MB for one minute and for more, of a still and a clip."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        voices = [make_voice(folder / f"{m}.wav", 60 * m) for m in (1, minutes)]
        rows = []
        for kind, make in (("still", make_still), ("clip", make_clip)):
            source = make(folder, SIDE, SIDE)
            short, long = (_measure_render(source, voice, folder / "out.mp4") for voice in voices)
            rows.append(
                {
                    "kind": kind,
                    "size": f"{SIDE}x{SIDE}",
                    "minutes": minutes,
                    "seconds": [round(short["seconds"], 1), round(long["seconds"], 1)],
                    "time_ratio_a_minute": round(long["seconds"] / short["seconds"] / minutes, 2),
                    "idle_mb": round(long["idle"]),
                    "peak_mb": [round(short["peak"]), round(long["peak"])],
                    "peak_ratio": round(long["peak"] / short["peak"], 2),
                    "peak_over_idle_mb": round(long["peak"] - long["idle"]),
                }
            )
        return rows


def first_progress(rounds: int = 3) -> float:
    """Seconds from submission to the local service's first progress; best of several, when warm."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(data_dir=Path(name), local_api_key=None)
        with serving(settings, "127.0.0.1", 0) as service:
            client = KolboClient(service.api_key, service.base_url)
            seconds = [_seconds_to_progress(client)]
            for _ in range(rounds):
                time.sleep(SUBMIT_INTERVAL_SECONDS)
                seconds.append(_seconds_to_progress(client))
            return min(seconds)


def _seconds_to_progress(client: KolboClient) -> float:
    start = time.perf_counter()
    generation = client.lipsync(PORTRAIT, SPEECH)
    while not generation.status().progress:
        time.sleep(0.03)
    seconds = time.perf_counter() - start
    generation.cancel()
    return seconds


def _measure_render(source: Path, voice: Path, out: Path) -> dict[str, float]:
    """Seconds, and megabytes of the process tree before the render (idle) and at most (peak)."""
    child = subprocess.Popen(
        [sys.executable, "-c", _RENDER, str(source), str(voice), str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert child.stdin
    assert child.stdout
    with child:
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("the engine does not start")
        idle = peak = memory_mb(child.pid)
        start = time.perf_counter()
        child.stdin.write("\n")
        child.stdin.flush()
        ended = threading.Event()
        answer: list[str] = []

        def listen() -> None:
            assert child.stdout
            answer.append(child.stdout.readline())
            ended.set()

        threading.Thread(target=listen, daemon=True).start()
        while not ended.wait(MEMORY_POLL_SECONDS):
            peak = max(peak, memory_mb(child.pid))
        seconds = time.perf_counter() - start
    if answer != ["done\n"]:
        raise RuntimeError("the render failed")
    return {"seconds": seconds, "idle": idle, "peak": peak}

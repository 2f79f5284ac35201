"""Ten minutes of speech against one, and how soon a visitor sees progress.

Each render runs in a process of its own whose memory, and that of the processes it starts, is read
from Linux's /proc while it works: pages shared by several count once.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from kolbo_demo.client.client import KolboClient
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter
from kolbo_demo.service.app import serving
from kolbo_demo.settings import Settings

ASSETS = Path(__file__).parents[1] / "assets"
SIDE = 256
"""Pixels: small, so that ten minutes stay bearable."""
RATE = 16_000
LOOK_SECONDS = 0.05
PAUSE_SECONDS = 2.0
"""Between one visitor and the next."""

_RENDER = """
import sys
from pathlib import Path
from kolbo_demo.engine import problem
from kolbo_demo.engine.render import render
assert problem() is None
print("ready", flush=True)
sys.stdin.readline()
render(*map(Path, sys.argv[1:4]))
print("done", flush=True)
"""


def long_against_short(minutes: int = 10) -> list[dict]:
    """For a still and a clip: seconds for one minute and for more, and peaks of memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        voices = [voice(folder / f"{m}.wav", m) for m in (1, minutes)]
        rows = []
        for kind, source in (("still", _still(folder)), ("clip", _clip(folder))):
            short, long = (_rendered(source, voice, folder / "out.mp4") for voice in voices)
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
    """Seconds from submitting a portrait until the local service tells progress; best of some, the
    service and the disk warm."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(data_dir=Path(name), local_api_key=None)
        with serving(settings, "127.0.0.1", 0) as service:
            client = KolboClient(service.api_key, service.base_url)
            seconds = [_until_progress(client)]
            for _ in range(rounds):
                time.sleep(PAUSE_SECONDS)
                seconds.append(_until_progress(client))
            return min(seconds)


def _until_progress(client: KolboClient) -> float:
    start = time.perf_counter()
    made = client.lipsync(ASSETS / "portrait.jpg", ASSETS / "speech.wav")
    while not made.status().progress:
        time.sleep(0.03)
    seconds = time.perf_counter() - start
    made.cancel()
    return seconds


def _rendered(source: Path, voice: Path, out: Path) -> dict[str, float]:
    """Seconds, and megabytes of the process before the work (idle) and at most (peak)."""
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
        idle = peak = megabytes(child.pid)
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
        while not ended.wait(LOOK_SECONDS):
            peak = max(peak, megabytes(child.pid))
        seconds = time.perf_counter() - start
    if answer != ["done\n"]:
        raise RuntimeError("the render failed")
    return {"seconds": seconds, "idle": idle, "peak": peak}


def started_by(pid: int) -> list[int]:
    """A process and all that it started and that runs still."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((task / "children").read_text() for task in tasks).split()
    except OSError:  # it has just ended
        return []
    return [pid, *(each for child in children for each in started_by(int(child)))]


def megabytes(pid: int) -> float:
    """Memory of a process and of all that it started."""
    found = 0.0
    for each in started_by(pid):
        with contextlib.suppress(OSError):  # it has just ended
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            kilobytes = next(line.split()[1] for line in rollup.splitlines() if "Pss:" in line)
            found += int(kilobytes) / 1024
    return found


def processor_seconds(pid: int) -> float:
    """What a process and all that it started have taken of the processor, ended ones too."""
    ticks = 0
    for each in started_by(pid):
        with contextlib.suppress(OSError):  # it has just ended
            told = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, told[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def voice(path: Path, minutes: int) -> Path:
    """The sample voice again and again."""
    once = (load_voice(ASSETS / "speech.wav", RATE) * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.resize(once, minutes * 60 * RATE).tobytes())
    return path


def _still(folder: Path) -> Path:
    picture = Image.open(ASSETS / "portrait.jpg")
    side = min(picture.size)
    path = folder / "still.png"
    picture.crop((0, 0, side, side)).resize((SIDE, SIDE)).save(path)
    return path


def _clip(folder: Path) -> Path:
    path, voice = folder / "clip.mp4", ASSETS / "speech.wav"
    with Clip(ASSETS / "clip.mp4") as clip:
        side = min(clip.width, clip.height)
        with VideoWriter(path, SIDE, SIDE, clip.fps, voice, float(clip.duration)) as out:
            for frame in clip.frames(out.frame_count):
                out.write(np.asarray(cv2.resize(frame[:side, :side], (SIDE, SIDE)), np.uint8))
    return path

"""`python -m kolbo_demo serve` as its owner starts it, to be killed, starved and started again."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import av

from tests.service.conftest import Caller

ROOT = Path(__file__).parents[2]
KEY = "kolbo_live_" + "7e" * 20


class ServerProcess:
    """One life of the service on a data folder. `lines` is what it says."""

    def __init__(self, folder: Path, prefix: Sequence[str] = (), **environment: str) -> None:
        """`prefix` is what is put before the command."""
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")
        }
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "kolbo_demo", "serve", "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=inherited
            | {"KOLBO_DATA_DIR": str(folder), "KOLBO_LOCAL_API_KEY": KEY}
            | environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def caller(self, seconds: float = 60.0) -> Caller | None:
        """Whom to ask, once it listens; None where it ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if "http://" in line:
                    return Caller("http://" + line.partition("http://")[2].strip(' "}\n'), KEY)
            if self.process.poll() is not None:
                return None
            time.sleep(0.02)
        raise AssertionError(f"the service did not start: {self.lines}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self) -> float:
        """SIGTERM; the seconds that it took to end."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0, self.lines
        self._reader.join()
        return time.monotonic() - begun

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stderr:
            self.lines.extend(iter(stderr.readline, ""))


def rows(folder: Path) -> dict[str, str]:
    """Each generation's id and what dbos's table says of it, read beside the service's back."""
    database = sqlite3.connect(f"file:{folder / 'jobs.sqlite'}?mode=ro", uri=True)
    try:
        return dict(
            database.execute(
                "SELECT workflow_uuid, status FROM workflow_status WHERE name = 'lipsync'"
            ).fetchall()
        )
    finally:
        database.close()


def decode(path: Path) -> int:
    """The frames of a video, every one decoded, its sound as well."""
    with av.open(str(path)) as video:
        assert sum(1 for _ in video.decode(audio=0))
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def strays(folder: Path, generations: int) -> list[str]:
    """Files that should not be there once so many generations are completed and nothing runs."""
    left = [f for name in ("inputs", "work") for f in (folder / name).rglob("*") if f.is_file()]
    results = sorted((folder / "results").iterdir())
    stems = {file.stem for file in results}
    whole = sorted(f"{stem}{end}" for stem in stems for end in (".jpg", ".mp4"))
    if len(stems) != generations or [file.name for file in results] != whole:
        left += results
    known = {"inputs", "work", "results", "signing"}
    left += [
        file
        for file in folder.iterdir()
        if file.name not in known and not file.name.startswith(("jobs.sqlite", "lock.sqlite"))
    ]
    return [str(file.relative_to(folder)) for file in left]

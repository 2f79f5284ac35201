"""Makes `released.tar.gz`, a data folder with the jobs of a release, by the code of that release.

`python -m tests.service.data.make_released_folder CHECKOUT`, in the project's environment, where
CHECKOUT has the files of the release (`git archive`). Its page and service are killed with one
generation completed, one failed, and three that wait or have begun.
"""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import requests
from gradio_client import Client, handle_file
from PIL import Image

ASSETS = Path(__file__).parents[3] / "assets"
ARCHIVE = Path(__file__).with_name("released.tar.gz")
KEY = "kolbo_live_" + "7e" * 20
TIMEOUT_SECONDS = 300
SERVE = "import app; app.main()"
NO_RENDER = """
import time
from kolbo_demo.service import render_pool
render_pool.RenderPool.run = lambda *_, **__: time.sleep(1e6)
"""
PROMPT = "smiling, lively head"
FACE = (0.75, 0.4)
"""The right one of two."""


def main() -> None:
    checkout = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "data")
        portrait, pair, wall, voice = _write_inputs(Path(name))
        expected: dict[str, Any] = {"prompt": PROMPT}
        with _Released(checkout, folder, SERVE) as url:
            expected["completed"] = _start(url, portrait, voice)
            expected["failed"] = _start(url, wall, voice)
            ended = [_wait(url, expected[state]) for state in ("completed", "failed")]
            assert [status["state"] for status in ended] == ["completed", "failed"], ended
        with _Released(checkout, folder, NO_RENDER + SERVE) as url:
            started = Client(url, verbose=False).predict(
                handle_file(str(pair)),
                voice=handle_file(str(voice)),
                prompt=PROMPT,
                face_x=FACE[0],
                face_y=FACE[1],
                api_name="/lipsync",
            )
            expected["prompted"] = started["generation_id"]
            expected["marked"] = _start(url, portrait, voice, visible_mark="true")
            expected["plain"] = _start(url, portrait, voice)
            _until(lambda: "PENDING" in _states(folder).values())
            [record] = (folder / "page").glob("*/record.json")
            expected["ticket"] = record.parent.name
            _until(lambda: (record.parent / "thumbnail.jpg").exists())
        database = sqlite3.connect(folder / "jobs.sqlite")
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            database.execute(statement)
        database.close()
        print(_states(folder))
        (folder / "expected.json").write_text(json.dumps(expected, indent=1))
        with tarfile.open(ARCHIVE, "w:gz") as archive:
            for path in sorted(folder.iterdir()):
                if path.name != "gradio":  # emptied at each start
                    archive.add(path, path.name)


class _Released:
    """Page and service of a release in a process, which is killed at the end."""

    def __init__(self, checkout: Path, folder: Path, code: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=checkout,
            env=os.environ
            | {
                "PYTHONPATH": str(checkout),
                "GRADIO_SERVER_PORT": str(port),
                "KOLBO_DATA_DIR": str(folder),
                "KOLBO_LOCAL_API_KEY": KEY,
            },
        )

    def __enter__(self) -> str:
        _until(self._answers)
        return self._url

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, "it did not start"
        try:
            return requests.get(f"{self._url}/healthz", timeout=5).ok
        except requests.ConnectionError:
            return False


def _write_inputs(folder: Path) -> tuple[Path, Path, Path, Path]:
    """A portrait, two faces side by side, a picture without a face, and a second of speech."""
    names = ("face.jpg", "pair.jpg", "wall.jpg", "voice.mp3")
    portrait, pair, wall, voice = (folder / name for name in names)
    with Image.open(ASSETS / "portrait.jpg") as image:
        face = image.resize((160, 160))
    face.save(portrait)
    both = Image.new("RGB", (320, 160))
    both.paste(face, (0, 0))
    both.paste(face, (160, 0))
    both.save(pair)
    Image.new("RGB", (160, 160), "grey").save(wall)
    with av.open(str(ASSETS / "speech.wav")) as source, av.open(str(voice), "w") as target:
        stream = target.add_stream("mp3", rate=source.streams.audio[0].rate)
        for frame in source.decode(audio=0):
            if frame.time is None or frame.time >= 1:
                break
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return portrait, pair, wall, voice


def _start(url: str, picture: Path, voice: Path, **fields: str) -> str:
    with picture.open("rb") as image, voice.open("rb") as audio:
        reply = requests.post(
            f"{url}/api/v1/generate/lipsync",
            headers={"X-API-Key": KEY},
            data=fields,
            files={"image": image, "audio": audio},
            timeout=30,
        )
    reply.raise_for_status()
    return reply.json()["generation_id"]


def _wait(url: str, generation: str) -> dict[str, Any]:
    def status() -> dict[str, Any]:
        path = f"{url}/api/v1/generate/{generation}/status"
        return requests.get(path, headers={"X-API-Key": KEY}, timeout=30).json()

    _until(lambda: status()["state"] != "processing")
    return status()


def _states(folder: Path) -> dict[str, str]:
    database = sqlite3.connect(folder / "jobs.sqlite")
    try:
        return dict(database.execute("SELECT workflow_uuid, status FROM workflow_status"))
    finally:
        database.close()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.25)


if __name__ == "__main__":
    main()

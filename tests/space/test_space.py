"""The project as a Hugging Face Space builds and runs it: its files alone, an environment made anew
from `requirements.txt`, an unprivileged user, code that cannot be written, port 7860."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from kolbo_demo.client import KolboClient

ROOT = Path(__file__).parents[2]
KEY = "kolbo_live_" + "3c" * 20
USER = 1000
"""Who runs a Space. Only root can become somebody else: others run it as they are."""
START_SECONDS, INSTALL_SECONDS, STOP_SECONDS = 60, 600, 20


@dataclass(frozen=True)
class Space:
    code: Path
    home: Path
    """All that its user may write."""
    url: str
    process: subprocess.Popen


def as_user(**more: object) -> dict:
    return {"user": USER, "group": USER, "extra_groups": [], **more} if os.geteuid() == 0 else more


def python_of_everybody() -> str:
    """A Python 3.11 or newer that the unprivileged user may run."""
    for name in (sys.executable, "/usr/bin/python3"):
        path = Path(name).resolve()
        check = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
        try:
            found = subprocess.run([path, "-c", check], **as_user(cwd="/"), check=False)
        except OSError:
            continue
        if found.returncode == 0:
            return str(path)
    raise RuntimeError("No Python 3.11 that an unprivileged user may run.")


def port() -> int:
    """A Space's own port, or a free one where somebody has that."""
    for wanted in (7860, 0):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return free.getsockname()[1]
    raise RuntimeError("no port is free")


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    root = Path(tempfile.mkdtemp(prefix="space-"))  # pytest's folders are closed to other users
    code, home = root / "app", root / "home"
    try:
        root.chmod(0o755)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (code / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, code / name)
        home.mkdir()
        python = root / "venv/bin/python"
        make = [python_of_everybody(), "-m", "venv", "--without-pip", str(root / "venv")]
        subprocess.run(make, check=True, cwd=root)
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        install += ["--disable-pip-version-check", "--no-compile", "-r", "requirements.txt"]
        subprocess.run(install, check=True, cwd=code, timeout=INSTALL_SECONDS)
        for path in (code, *code.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.chown(home, USER, USER)
        with running(code, home, python) as found:
            yield found
    finally:
        for path in (code, *code.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(root)


@contextmanager
def running(code: Path, home: Path, python: Path) -> Iterator[Space]:
    number, log = port(), home.parent / "app.log"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "SPACE_ID": "someone/lipsync",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "KOLBO_LOCAL_API_KEY": KEY,
    }
    if number != 7860:
        environment["GRADIO_SERVER_PORT"] = str(number)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [python, "app.py"],
            **as_user(cwd=code, env=environment),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{number}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(requests.ConnectionError):
                requests.get(url, timeout=5)
                break
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(log.read_text(errors="replace"))
            time.sleep(0.1)
        yield Space(code, home, url, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()


def test_a_space_makes_a_video(space: Space, tmp_path: Path):
    assert "Kolbo Lipsync" in requests.get(space.url, timeout=10).text
    client = KolboClient(KEY, f"{space.url}/api")
    assets = ROOT / "assets"
    generation = client.lipsync(assets / "portrait.jpg", assets / "clip.mp4")
    made = generation.wait()
    assert made.state == "completed"
    generation.download(tmp_path / "made.mp4")
    assert (tmp_path / "made.mp4").stat().st_size > 10_000


def test_it_writes_nothing_but_what_is_its_user_s(space: Space):
    if os.geteuid() == 0:
        owners = {path.stat().st_uid for path in space.code.rglob("*")}
        assert owners == {0}
        status = Path(f"/proc/{space.process.pid}/status").read_text()
        assert f"Uid:\t{USER}" in status
    assert not list(space.code.rglob("__pycache__"))


def test_no_package_of_the_system_is_asked_for():
    """The wheels bring what they need: a `packages.txt` would be a step more at each build."""
    assert not (ROOT / "packages.txt").exists()

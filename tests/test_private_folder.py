"""Nothing under the data folder can be seen by another user of the machine."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from kolbo_demo.private_folder import try_create
from tests.service.conftest import files, portrait, speech
from tests.waiting import wait

__all__ = ["files", "portrait", "speech"]

ROOT = Path(__file__).parents[1]
KEY = "kolbo_live_" + "5a" * 20
COMMANDS = {
    "serve": ["-m", "kolbo_demo", "serve", "--port", "0"],
    "page": ["app.py"],
}
# As another user: every name under a folder that can be listed, entered or read.
_SPY = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
root = sys.argv[1]
names = sys.stdin.read().splitlines()
for path in [root, *(os.path.join(root, name) for name in names)]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
        print(path)
    except OSError:
        pass
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, as `/srv` is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("existing", [True, False], ids=["existing", "new"])
@pytest.mark.parametrize("command", COMMANDS)
def test_another_user_sees_nothing(command: str, existing: bool, place: Path, files):
    folder = place / "data"
    if existing:
        folder.mkdir(mode=0o755)
    more = {"KOLBO_DATA_DIR": str(folder), "KOLBO_LOCAL_API_KEY": KEY, "GRADIO_SERVER_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[command]],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if not name.startswith("KOLBO_")}
        | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if command == "serve" else subprocess.DEVNULL,
        text=True,
        umask=0o022,
    )
    try:
        if command == "serve":
            assert process.stderr
            base = next(word for word in process.stderr.readline().split() if "http://" in word)
            reply = requests.post(
                f"{base}/v1/generate/lipsync",
                headers={"X-API-Key": KEY},
                files=files(20.0),
                timeout=30,
            )
            assert reply.status_code == 200
        wait(lambda: (folder / "results").exists() or process.poll() is not None)
        assert process.poll() is None
        paths = [folder, *folder.rglob("*")]
        assert len(paths) > 3
        # Gradio copies examples with the mode that they have here, into folders nobody can enter.
        made = [path for path in paths if path.is_dir() or "gradio" not in path.parts]
        assert [path for path in made if path.exists() and path.stat().st_mode & 0o077] == []
        if os.geteuid() == 0:
            spied = subprocess.run(
                [sys.executable, "-c", _SPY, str(folder)],
                input="\n".join(str(path.relative_to(folder)) for path in paths[1:]),
                capture_output=True,
                text=True,
                check=True,
                cwd="/",
            )
            assert spied.stdout == ""
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_what_the_command_line_saves_has_the_user_s_own_mode(place: Path, files):
    for name, (_, data) in files().items():
        (place / name).write_bytes(data)
    subprocess.run(
        [
            *(sys.executable, "-m", "kolbo_demo", "generate", "--local"),
            *("--source", place / "image", "--audio", place / "audio"),
            *("--output", place / "made.mp4"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        umask=0o022,
        timeout=120,
    )
    assert (place / "made.mp4").stat().st_mode & 0o777 == 0o644


def test_folders_of_others_stay_as_they_are(place: Path, monkeypatch: pytest.MonkeyPatch):
    home, everybody_s, own = place / "home", place / "tmp", place / "own"
    for folder, mode in ((home, 0o755), (everybody_s, 0o1777), (own, 0o775)):
        folder.mkdir()
        folder.chmod(mode)
    monkeypatch.setenv("HOME", str(home))
    for folder in (home, everybody_s, own, Path("/"), place / "deep" / "new"):
        try_create(folder)
    assert [p.stat().st_mode & 0o7777 for p in (home, everybody_s, own)] == [0o755, 0o1777, 0o700]
    assert Path("/").stat().st_mode & 0o055 == 0o055
    assert (place / "deep" / "new").stat().st_mode & 0o777 == 0o700

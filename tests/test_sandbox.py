"""Hostile media: what is refused, what it may take, and that it takes down nothing but itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from kolbo_demo.media import sandbox
from kolbo_demo.media.probe import Media, MediaError
from tests import hostile, samples, scripted
from tests.scripted import Scripted

server = scripted.server  # a fixture

ROOT = Path(__file__).parents[1]
SLOW_SECONDS = sandbox.LOOK_SECONDS + 5
"""Within this every look ends, also on a busy machine."""


def refusal(path: Path) -> str:
    """The sentence with which every kind of look refuses a file."""
    said = set()
    for look in (sandbox.inspect_source, sandbox.inspect_audio, lambda p: sandbox.preview(p, 64)):
        with pytest.raises(MediaError) as caught:
            look(path)
        said.add(str(caught.value))
    assert all(sentence.endswith(".") and len(sentence) < 300 for sentence in said)
    return " ".join(said)


def children(parent: int) -> dict[int, bytes]:
    """Process ids and command lines of what a process has started and that runs still."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes()
    return found


def looker() -> int:
    """The child that looks at files for this process."""
    sandbox.inspect_source(samples.PORTRAIT)
    [pid] = [
        pid for pid, told in children(os.getpid()).items() if b"kolbo_demo.media.sandbox" in told
    ]
    return pid


def copy_at_work(parent: int) -> int:
    deadline = time.monotonic() + 20
    while not (found := children(parent)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return next(iter(found))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.slow_jpeg(tmp_path_factory.mktemp("slow") / "slow.jpg")


def test_looks_say_what_media_says(tmp_path):
    found = sandbox.inspect_source(samples.video(tmp_path / "c.mp4", 25, sound=1.0, turn=90))
    assert (found.kind, found.width, found.height, found.has_audio) == ("video", 120, 160, True)
    assert sandbox.inspect_audio(samples.SPEECH).duration == pytest.approx(5.79775)
    assert sandbox.preview(samples.PORTRAIT, 100).size == (100, 100)
    clip = samples.video(tmp_path / "flat.mp4", 25, width=160, height=120)
    assert sandbox.preview(clip, 80, at=0.52).size == (80, 60)
    with pytest.raises(MediaError, match="There is no such file"):
        sandbox.inspect_source(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize("make", hostile.PLAYLISTS)
def test_a_playlist_in_disguise_reaches_nothing(make, tmp_path, server: Scripted):
    """Under the name and, where it can, with the first bytes of something harmless."""
    secret = samples.video(tmp_path / "secret.mp4")
    for target in (
        f"http://localhost:{server.server_address[1]}/secret.ts",
        str(secret),
        f"file://{secret}",
    ):
        for name in ("a.mp4", "a.wav", "a.jpg"):
            (tmp_path / name).write_bytes(make(target))
            refusal(tmp_path / name)
    assert server.seen == []


def test_codecs_that_nobody_needs_are_refused(tmp_path):
    for codec in ("qtrle", "cinepak"):
        path = samples.video(tmp_path / f"{codec}.mov", 3, codec=codec, pix_fmt="rgb24")
        for look in (sandbox.inspect_source, lambda path: sandbox.preview(path, 64)):
            with pytest.raises(MediaError, match="codec that cannot be read"):
                look(path)


def test_more_pixels_than_allowed_are_refused_before_they_are_decoded(tmp_path):
    bombs = [
        samples.huge_png(tmp_path / "a.png"),
        hostile.huge_avi(tmp_path / "a.avi"),
        *hostile.huge_pictures(tmp_path),
    ]
    for path in bombs:
        for look in (sandbox.inspect_source, lambda path: sandbox.preview(path, 64)):
            begun = time.monotonic()
            # WebP's library reserves the whole canvas before it tells its size: there the bound
            # on memory refuses, and the library calls it damage.
            says = "damaged" if path.suffix == ".webp" else r"too large|larger than 4K|0x0 pixels"
            with pytest.raises(MediaError, match=says):
                look(path)
            assert time.monotonic() - begun < SLOW_SECONDS / 2, path


def test_hours_of_silence_in_a_small_file_are_counted_or_refused_in_time(tmp_path):
    """A byte is 20 ms of sound there: 200 hours in a file of 36 MB."""
    path = hostile.endless_amr(tmp_path / "a.amr", hours=200)
    begun = time.monotonic()
    with contextlib.suppress(MediaError):
        assert (sandbox.inspect_audio(path).duration or 0) > 600
    assert time.monotonic() - begun < SLOW_SECONDS


def test_what_never_ends_is_ended_and_meanwhile_others_are_served(slow):
    """A picture of 48 megapixels whose every pixel is refined thousands of times."""
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        hanging = pool.submit(sandbox.preview, slow, 64)
        assert sandbox.inspect_source(samples.PORTRAIT).width == 512
        assert not hanging.done()
        with pytest.raises(MediaError, match="too long"):
            hanging.result(SLOW_SECONDS)
        assert 3 < time.monotonic() - begun < SLOW_SECONDS
    assert children(looker()) == {}


def test_a_crash_is_a_file_that_cannot_be_read(slow):
    parent = looker()
    for death in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(sandbox.preview, slow, 64)
            os.kill(copy_at_work(parent), death)
            with pytest.raises(MediaError, match="cannot be read"):
                looking.result(SLOW_SECONDS)
    assert looker() == parent, "only the copy is gone"


def test_if_the_child_itself_dies_another_takes_its_place(slow):
    parent = looker()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(sandbox.preview, slow, 64)
        copy = copy_at_work(parent)
        os.kill(parent, signal.SIGKILL)
        with pytest.raises(MediaError, match="cannot be read"):
            looking.result(SLOW_SECONDS)
    assert looker() != parent
    deadline = time.monotonic() + SLOW_SECONDS + 5  # nobody is left to end it but its own alarm
    while Path(f"/proc/{copy}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_look_is_bounded_and_sees_no_key_and_no_other_file(slow):
    parent = looker()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(sandbox.preview, slow, 64)
        process = Path(f"/proc/{copy_at_work(parent)}")
        time.sleep(0.3)
        bounds = hostile.bounds(int(process.name))
        opened = sorted(str(link.readlink()) for link in (process / "fd").iterdir())
        os.kill(int(process.name), signal.SIGKILL)
        with pytest.raises(MediaError):
            looking.result(SLOW_SECONDS)
    assert int(bounds["Max address space"]) < 4 * 1024**3
    assert int(bounds["Max cpu time"]) < 60
    assert bounds["Max core file size"] == "0"
    others = [name for name in opened if name not in ("/dev/null", str(slow))]
    assert len(others) == 1, opened
    assert others[0].startswith("pipe:"), "its answer"


def test_past_its_memory_a_process_gets_none_and_past_its_time_it_is_ended():
    code = """
import sys
from kolbo_demo.confine import confine
confine(1.0, 256 * 1024**2)
bytes(128 * 1024**2)
try:
    bytearray(512 * 1024**2)
except MemoryError:
    print("no more", flush=True)
while True:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.stdout, done.returncode) == (b"no more\n", -signal.SIGXCPU), done.stderr


def test_the_child_ends_with_whoever_started_it(slow):
    code = """
import sys, threading, time
from pathlib import Path
from kolbo_demo import sandbox
sandbox.inspect_source(Path(sys.argv[1]))
threading.Thread(target=sandbox.preview, args=(Path(sys.argv[2]), 64), daemon=True).start()
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(samples.PORTRAIT), str(slow)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        [child] = children(process.pid)
        copy = copy_at_work(child)
        process.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in (child, copy)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Five hundred damaged files


def outcome(path: Path) -> tuple[str, float]:
    """What became of one file, looked at in a way of its kind, and in how many seconds."""
    number = int(path.stem)
    if path.suffix in hostile.SOUNDS:
        look = sandbox.inspect_audio
    else:
        look = (sandbox.inspect_source, lambda path: sandbox.preview(path, 64))[number // 20 % 2]
    begun = time.monotonic()
    try:
        assert isinstance(look(path), Media | Image.Image)
        told = "read"
    except MediaError as error:
        told = "refused" if str(error).endswith(".") else str(error)
    return told, time.monotonic() - begun


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(hostile.damaged(tmp_path_factory.mktemp("damaged"), 500))


def test_five_hundred_damaged_files(damaged, caplog):
    parent = looker()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, damaged))
    assert len(outcomes) == 500
    assert max(seconds for _, seconds in outcomes) < SLOW_SECONDS
    assert {told for told, _ in outcomes} == {"read", "refused"}, "some damage is harmless"
    assert looker() == parent, "the child that forks has not died"
    assert children(parent) == {}, "nothing is left behind"
    assert "looking at a file failed" not in caplog.text, "every damage is one that is known"


FORKED = """
import sys
from pathlib import Path

from kolbo_demo import sandbox
from kolbo_demo.service import render_pool
from tests.test_sandbox import children

server = render_pool.new_fork_server()
server.warm()
with sandbox.forked(server):
    print(sandbox.inspect_source(Path(sys.argv[1])).width)
    print(sandbox.preview(Path(sys.argv[2]), 80).size)
    [told] = children(__import__("os").getpid()).values()
    print(told.split(b"\\0")[3].decode())
    try:
        sandbox.inspect_audio(Path(sys.argv[1]))
    except sandbox.MediaError as error:
        print(error)
"""


def test_a_loaded_fork_server_looks_too(tmp_path: Path):
    clip = samples.video(tmp_path / "c.mp4", 25, sound=1.0)
    words = [sys.executable, "-c", FORKED, str(samples.PORTRAIT), str(clip)]
    root = Path(__file__).parents[1]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, timeout=60, check=False)
    assert done.stdout.splitlines() == [
        "512",
        "(80, 60)",
        "kolbo_demo.service.render_worker",
        "The file is a picture: choose a recording for the voice.",
    ], done.stderr

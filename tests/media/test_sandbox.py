"""Hostile media are refused, within limits, and take down nothing but their own child."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.process_stats import children, command_line
from kolbo_demo.media import sandbox
from kolbo_demo.media.probe import MediaError, MediaInfo
from tests import hostile, samples, scripted
from tests.scripted import Scripted
from tests.waiting import wait

server = scripted.server  # a fixture

ROOT = Path(__file__).parents[2]
SLOW_SECONDS = sandbox.TIMEOUT_SECONDS + 5
"""Within this every inspection ends, on a busy machine too."""


def refusal(path: Path) -> str:
    """The messages with which every operation refuses a file."""
    messages = set()
    for operation in (
        sandbox.inspect_source,
        sandbox.inspect_audio,
        lambda p: sandbox.preview(p, 64),
    ):
        with pytest.raises(MediaError) as caught:
            operation(path)
        messages.add(str(caught.value))
    assert all(message.endswith(".") and len(message) < 300 for message in messages)
    return " ".join(messages)


def fork_server() -> int:
    """Process id of this process's fork server."""
    sandbox.inspect_source(samples.PORTRAIT)
    module = b"kolbo_demo.media.sandbox"
    [pid] = [pid for pid in children(os.getpid()) if module in command_line(pid)]
    return pid


def running_child(server: int) -> int:
    return wait(lambda: children(server), interval=0.01)[0]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.slow_jpeg(tmp_path_factory.mktemp("slow") / "slow.jpg")


def test_results_are_those_of_probe(tmp_path):
    found = sandbox.inspect_source(samples.video(tmp_path / "c.mp4", 25, sound=1.0, turn=90))
    assert (found.kind, found.width, found.height, found.has_audio) == ("video", 120, 160, True)
    assert sandbox.inspect_audio(samples.SPEECH).duration == pytest.approx(5.79775)
    assert sandbox.preview(samples.PORTRAIT, 100).size == (100, 100)
    clip = samples.video(tmp_path / "flat.mp4", 25, width=160, height=120)
    assert sandbox.preview(clip, 80, at=0.52).size == (80, 60)
    with pytest.raises(MediaError, match="There is no such file"):
        sandbox.inspect_source(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize("make", hostile.PLAYLISTS)
def test_a_disguised_playlist_reaches_nothing(make, tmp_path, server: Scripted):
    """With the name and, if possible, the first bytes of a harmless file."""
    secret = samples.video(tmp_path / "secret.mp4")
    for target in (
        f"http://localhost:{server.server_address[1]}/secret.ts",
        str(secret),
        f"file://{secret}",
    ):
        for name in ("a.mp4", "a.wav", "a.jpg"):
            (tmp_path / name).write_bytes(make(target))
            refusal(tmp_path / name)
    assert server.requests == []


def test_unsupported_codecs_are_refused(tmp_path):
    for codec in ("qtrle", "cinepak"):
        path = samples.video(tmp_path / f"{codec}.mov", 3, codec=codec, pix_fmt="rgb24")
        for operation in (sandbox.inspect_source, lambda path: sandbox.preview(path, 64)):
            with pytest.raises(MediaError, match="codec that cannot be read"):
                operation(path)


def test_too_many_pixels_are_refused_undecoded(tmp_path):
    bombs = [
        samples.huge_png(tmp_path / "a.png"),
        hostile.huge_avi(tmp_path / "a.avi"),
        *hostile.huge_pictures(tmp_path),
    ]
    for path in bombs:
        for operation in (sandbox.inspect_source, lambda path: sandbox.preview(path, 64)):
            begun = time.monotonic()
            # WebP's library reserves the whole canvas before it tells its size: there the bound
            # on memory refuses, and the library calls it damage.
            says = "damaged" if path.suffix == ".webp" else r"too large|larger than 4K|0x0 pixels"
            with pytest.raises(MediaError, match=says):
                operation(path)
            assert time.monotonic() - begun < SLOW_SECONDS / 2, path


def test_long_silence_in_a_small_file_is_measured_or_refused_in_time(tmp_path):
    """A byte is 20 ms of sound there: 200 hours in a file of 36 MB."""
    path = hostile.endless_amr(tmp_path / "a.amr", hours=200)
    begun = time.monotonic()
    with contextlib.suppress(MediaError):
        assert (sandbox.inspect_audio(path).duration or 0) > 600
    assert time.monotonic() - begun < SLOW_SECONDS


def test_endless_decoding_times_out_and_delays_no_other_file(slow):
    """A picture of 48 megapixels whose every pixel is refined thousands of times."""
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        hanging = pool.submit(sandbox.preview, slow, 64)
        assert sandbox.inspect_source(samples.PORTRAIT).width == 512
        assert not hanging.done()
        with pytest.raises(MediaError, match="too long"):
            hanging.result(SLOW_SECONDS)
        assert 3 < time.monotonic() - begun < SLOW_SECONDS
    assert children(fork_server()) == []


def test_a_crash_makes_a_file_unreadable(slow):
    server = fork_server()
    for death in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
        with ThreadPoolExecutor(1) as pool:
            inspection = pool.submit(sandbox.preview, slow, 64)
            os.kill(running_child(server), death)
            with pytest.raises(MediaError, match="cannot be read"):
                inspection.result(SLOW_SECONDS)
    assert fork_server() == server, "only the child is gone"


def test_a_killed_fork_server_is_replaced(slow):
    server = fork_server()
    with ThreadPoolExecutor(1) as pool:
        inspection = pool.submit(sandbox.preview, slow, 64)
        child = running_child(server)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(MediaError, match=r"cannot be read|too long"):
            inspection.result(SLOW_SECONDS)
    assert fork_server() != server
    wait(lambda: not Path(f"/proc/{child}").exists())  # its own deadline ends it


def test_a_child_is_limited_and_has_no_other_file_open(slow):
    server = fork_server()
    with ThreadPoolExecutor(1) as pool:
        inspection = pool.submit(sandbox.preview, slow, 64)
        process = Path(f"/proc/{running_child(server)}")
        time.sleep(0.3)
        bounds = hostile.bounds(int(process.name))
        opened = sorted(str(link.readlink()) for link in (process / "fd").iterdir())
        os.kill(int(process.name), signal.SIGKILL)
        with pytest.raises(MediaError):
            inspection.result(SLOW_SECONDS)
    assert int(bounds["Max address space"]) < 4 * 1024**3
    assert int(bounds["Max cpu time"]) < 60
    assert bounds["Max core file size"] == "0"
    others = [name for name in opened if name not in ("/dev/null", str(slow))]
    own = ("pipe:", f"{tempfile.gettempdir()}/")
    assert all(name.startswith(own) for name in others), "requests, messages and standard error"
    assert sum(name.endswith(" (deleted)") for name in others) == len(others) - 2, others


def test_limits_of_memory_and_processor_time():
    code = """
import sys
from kolbo_demo.process.confinement import limit_resources
limit_resources(1.0, 256 * 1024**2)
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


def test_children_end_with_their_parent(slow):
    code = """
import sys, threading, time
from pathlib import Path
from kolbo_demo.media import sandbox
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
        [server] = children(process.pid)
        child = running_child(server)
        process.kill()
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (server, child)))


# Five hundred damaged files


def outcome(path: Path) -> tuple[str, float]:
    """Whether a file is read or refused by an operation for its kind, and seconds taken."""
    number = int(path.stem)
    if path.suffix in hostile.SOUNDS:
        operation = sandbox.inspect_audio
    else:
        operations = (sandbox.inspect_source, lambda path: sandbox.preview(path, 64))
        operation = operations[number // 20 % 2]
    begun = time.monotonic()
    try:
        assert isinstance(operation(path), MediaInfo | Image.Image)
        result = "read"
    except MediaError as error:
        result = "refused" if str(error).endswith(".") else str(error)
    return result, time.monotonic() - begun


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(hostile.damaged(tmp_path_factory.mktemp("damaged"), 500))


def test_five_hundred_damaged_files(damaged, caplog):
    server = fork_server()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, damaged))
    assert len(outcomes) == 500
    assert max(seconds for _, seconds in outcomes) < SLOW_SECONDS
    assert {result for result, _ in outcomes} == {"read", "refused"}, "some damage is harmless"
    assert fork_server() == server, "the fork server has survived"
    assert children(server) == [], "no child is left"
    assert "inspecting a file failed" not in caplog.text, "no unexpected exception"


SHARED_SERVER = """
import os
import sys
from pathlib import Path

from kolbo_demo.media import sandbox
from kolbo_demo.service import render_pool
from benchmarks.process_stats import children, command_line

server = render_pool.new_fork_server()
server.preload()
with sandbox.use_fork_server(server):
    print(sandbox.inspect_source(Path(sys.argv[1])).width)
    print(sandbox.preview(Path(sys.argv[2]), 80).size)
    [pid] = children(os.getpid())
    print(command_line(pid).split(b"\\0")[3].decode())
    try:
        sandbox.inspect_audio(Path(sys.argv[1]))
    except sandbox.MediaError as error:
        print(error)
"""


def test_a_shared_fork_server(tmp_path: Path):
    clip = samples.video(tmp_path / "c.mp4", 25, sound=1.0)
    words = [sys.executable, "-c", SHARED_SERVER, str(samples.PORTRAIT), str(clip)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.stdout.splitlines() == [
        "512",
        "(80, 60)",
        "kolbo_demo.service.render_worker",
        "The file is a picture: choose a recording for the voice.",
    ], done.stderr

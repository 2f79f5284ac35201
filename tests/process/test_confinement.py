"""Children that open visitors' files: what one that a file has taken over can still do."""

import base64
import contextlib
import os
import platform
import queue
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from benchmarks.process_stats import command_line, process_tree
from kolbo_demo.credentials.manifest import combined
from kolbo_demo.credentials.reading import read
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.engine import EngineError
from kolbo_demo.engine.sync_eval.process import judge_in_process
from kolbo_demo.media import picture, sandbox
from kolbo_demo.media import probe as media
from kolbo_demo.media.picture_metadata import PictureFile
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.preflight import Inspector
from kolbo_demo.process import landlock
from kolbo_demo.process.child import Child, MessageQueue
from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.process.fork_server import ForkServer
from kolbo_demo.service.app import LocalService
from kolbo_demo.settings import Settings
from tests import samples
from tests.process import hostile_child

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
REFUSED = {"EACCES", "EPERM", "EXDEV", "ENOSYS"}

pytestmark = pytest.mark.skipif(
    not landlock.abi_version() or platform.machine() not in ("x86_64", "aarch64"),
    reason="needs Landlock and the filter of system calls",
)


class Probe:
    """A probe at work: `files` are those of its task."""

    def __init__(self, forks: ForkServer, files: AllowedFiles) -> None:
        self._heard: MessageQueue = queue.SimpleQueue()
        self.child, self._files = forks.fork(self._heard), files

    def __call__(self, name: str, *given: object) -> Any:
        self.child.send(self._files, **{"try": name, "given": given})
        _, message = self._heard.get(timeout=SECONDS)
        assert message is not None, self.child.exit_error()
        return message["answer"]


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Probe]]:
    """Starts probes, forked like the children that open visitors' files."""
    forks, children = dict[str, ForkServer](), list[Child]()

    def started(files: AllowedFiles, version: int | None = None) -> Probe:
        zone = f"landlock{version}" if version is not None else "UTC"
        if zone not in forks:
            forks[zone] = ForkServer(hostile_child.__name__, {"TZ": zone})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(ROOT))
            patch.setenv("KOLBO_DATABASE_URL", "postgresql://someone:hush-hush@db/kolbo")
            patch.setenv("MY_OWN_DSN", "hush-hush")
            made = Probe(forks[zone], files)
        children.append(made.child)
        return made

    yield started
    for child in children:
        child.kill()
    for each in forks.values():
        each.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the files of two visitors, and a folder for the results of one."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("mine/voice", "theirs/voice", "kolbo.sqlite", "made/before"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def taken(start: Callable[..., Probe], place: Path) -> Probe:
    """A child that a file has taken over."""
    return start(AllowedFiles(read=(str(place / "mine"),), write=(str(place / "made"),)))


def test_it_has_what_its_task_needs(taken: Probe, place: Path):
    assert taken("read", str(place / "mine/voice")) == "mine/voice"
    assert taken("write", str(place / "made/result")) is None
    assert taken("read", str(place / "made/result")) == "x"
    assert taken("make", str(place / "made/folder")) is None
    moved = str(place / "made/folder/result")
    assert taken("rename", str(place / "made/result"), moved) is None
    assert taken("remove", moved) is None
    assert taken("devices") == 16
    assert taken("library") is True
    assert taken("signal", taken.child.pid) is None
    assert "ok" in taken("read by python", os.devnull) + "ok"


@pytest.mark.parametrize(
    "way", ["read", "read by a program", "read by python", "read by a thread", "append"]
)
def test_it_opens_no_other_file(taken: Probe, place: Path, way: str):
    parent = os.getpid()
    other = [place / "theirs/voice", place / "kolbo.sqlite", Path("/etc/passwd"), Path(__file__)]
    other += [Path(f"/proc/{parent}/{name}") for name in ("environ", "mem", "maps", "cmdline")]
    other += [Path("/proc/1/environ"), ROOT / "README.md", ROOT / "pyproject.toml"]
    assert {
        str(path): taken(way, str(path)) for path in other if taken(way, str(path)) not in REFUSED
    } == {}


def test_it_lists_no_other_folder(taken: Probe, place: Path):
    folders = [place, place / "theirs", Path("/"), Path.home(), Path("/proc"), Path("/tmp"), ROOT,
               Path(f"/proc/{os.getpid()}/fd"), Path("/etc"), Path("/dev")]  # fmt: skip
    assert [str(path) for path in folders if taken("list", str(path)) not in REFUSED] == []


def test_it_changes_nothing_but_its_results(taken: Probe, place: Path):
    theirs, mine, made = (str(place / name) for name in ("theirs/voice", "mine/voice", "made"))
    assert {
        (name, *given)
        for name, *given in [
            ("write", str(place / "new")),
            ("write", theirs),
            ("write", mine),
            ("make", str(place / "folder")),
            ("remove", theirs),
            ("remove", mine),
            ("truncate", theirs),
            ("rename", theirs, f"{made}/stolen"),
            ("rename", f"{made}/before", theirs),
            ("link", theirs, f"{made}/linked"),
            ("link", mine, f"{made}/linked"),
            ("symlink", theirs, f"{made}/symlinked"),
            ("fifo", f"{made}/fifo"),
            ("unix file", f"{made}/socket"),
            ("change mode", theirs),
            ("change mode", str(place)),
            ("change owner", theirs),
            ("change times", theirs),
            ("set attribute", theirs),
            ("watch", str(place)),
        ]
        if taken(name, *given) not in REFUSED
    } == set()
    assert Path(theirs).read_text() == "theirs/voice"
    assert Path(mine).read_text() == "mine/voice"


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[dict[str, tuple[socket.socket, object]]]:
    """Sockets of every kind on this machine, by how a probe reaches each, and what it needs."""
    name = f"kolbo-{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:

        def bound(family: int, kind: int, address: Any) -> socket.socket:
            made = stack.enter_context(socket.socket(family, kind))
            made.bind(address)
            made.setblocking(False)
            if kind == socket.SOCK_STREAM:
                made.listen()
            return made

        tcp = bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        udp = bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        paths = [str(tmp_path / each) for each in ("stream", "datagrams")]
        yield {
            "tcp": (tcp, tcp.getsockname()[1]),
            "udp": (udp, udp.getsockname()[1]),
            "unix": (bound(socket.AF_UNIX, socket.SOCK_STREAM, paths[0]), paths[0]),
            "unix by a pair": (bound(socket.AF_UNIX, socket.SOCK_DGRAM, paths[1]), paths[1]),
            "abstract": (bound(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}"), name),
        }


def test_it_reaches_nothing_by_a_socket(taken: Probe, listeners):
    for way, (listener, target) in listeners.items():
        assert taken(way, target) in REFUSED, way
        with pytest.raises(BlockingIOError):
            listener.recv(16) if way in ("udp", "unix by a pair") else listener.accept()
    for way, *given in (("tcp6", 9), ("netlink",), ("serve",), ("ring",)):
        assert taken(way, *given) in REFUSED, way


def test_it_reaches_no_other_process(taken: Probe):
    processes = [os.getpid(), os.getppid(), 1]
    for way in ("signal", "signal a thread", "signal by queue", "signal by a pipe", "hold", "trace",
                "look into", "bound", "renice"):  # fmt: skip
        assert [each for each in processes if taken(way, each) not in REFUSED] == [], way
    for way in ("signal all", "leave the group", "leave the session", "namespace",
                "namespace by clone", "key", "shared memory"):  # fmt: skip
        assert taken(way) in REFUSED, way


def test_it_cannot_lift_its_bounds(taken: Probe, place: Path):
    path = str(place / "made/long")
    assert taken("long file", path, 1000_000) == 1000_000
    assert taken("long file", path, 2 * 1024**2) == "EFBIG"
    for name in ("RLIMIT_FSIZE", "RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_CORE"):
        assert taken("raise", name, 2**40) in REFUSED, name
    status = taken("own")
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_its_environment_holds_what_is_named_and_no_more(taken: Probe):
    found = taken("environment")
    assert "hush-hush" not in str(found)
    assert not [name for name in found if name.startswith("KOLBO")]
    assert "PATH" in found


def test_others_of_the_same_user_cannot_look_into_its_parent(taken: Probe):
    """By the kernel's own rule for those that are not root, which needs no Landlock."""
    taken("environment")  # a child was started
    server = int(Path(f"/proc/{taken.child.pid}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (os.getpid(), server):
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
        assert not _readable(pid)


def _readable(pid: int) -> bool:
    """For a process of this user that has no more rights than users have."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from kolbo_demo.process import confinement
confinement._drop_capabilities()
try:
    open("/proc/{pid}/environ").read()
    print("read")
except PermissionError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return "read" in done.stdout


@pytest.mark.parametrize("version", range(8))
def test_an_older_kernel_s_rules_are_used_as_far_as_they_go(
    start: Callable[..., Probe], place: Path, version: int
):
    if version > landlock.abi_version():
        pytest.skip("this kernel is older")
    child = start(AllowedFiles(read=(str(place / "mine"),), write=(str(place / "made"),)), version)
    assert child("read", str(place / "mine/voice")) == "mine/voice"
    assert child("write", str(place / "made/result")) is None
    assert child("library") is True
    if version:
        assert child("read", str(place / "theirs/voice")) in REFUSED
        assert child("write", str(place / "new")) in REFUSED
    for way, *given in (
        ("tcp", 9),
        ("unix", "/nowhere"),
        ("read", f"/proc/{os.getpid()}/environ"),
        ("signal", os.getpid()),
        ("signal all",),
        ("signal by a pipe", os.getpid()),
        ("trace", os.getpid()),
        ("change mode", str(place)),
        ("truncate", str(place / "theirs/voice")),
        ("leave the group",),
    ):
        assert child(way, *given) in REFUSED, (version, way)


# What it says


@pytest.mark.parametrize("said", [("[", 100_000), ("x", 70 * 1024**2), ("{", 1)])
def test_what_it_says_ends_itself_alone(start: Callable[..., Probe], said: tuple[str, int]):
    """The parent neither fails nor waits, and holds one message at most."""
    with pytest.raises(AssertionError, match="was killed"):
        start(AllowedFiles())("say", *said)


@pytest.mark.parametrize("said", ["[1]", "7", "null", '"x"'])
def test_a_malformed_message_ends_the_child(start: Callable[..., Probe], said: str):
    with pytest.raises(AssertionError, match="was killed"):
        start(AllowedFiles())("say", said, 1)


# The children themselves


_CODED = (
    "c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xy^nKdYzkElE?r7iWw<6MNl?FL1uCZ0~+8f$SlbPvlxL`E;A=T8N_h`"
    "@fjhajKT~IT-SkYjm*rvG`LzRASaax%1bOWFm%q($p_n&m03_!0HnP$3zGAJv`A)gK`PWf2PhUO$gIc&2{3bTZ~!Tu"
    "#4<zYMtL5PkZ^K-PElTRP6g0pUIw-XppbZGK`zWsK!>p~GBvXRU3EV<C9y<^fr~@_d;S0a{~I}sPKZhXopYGSkbxoO"
    "E6?f7RVm9~Z<p}B<l6q)BO)Uw_uy0KrcL?N&wns~R=P3w%FdDxz2{yvGrazgIgwjkdFdogm+}{Hmi>#mC#=DBGv~s?"
    "v&orH-A>5gJQDlG_w331r$0tb9W`~-)KODMO&v9L)YMT^M@=0yl_rJ)0D!bpwE"
)
"""An AVIF of 16384x16384 grey pixels that says to have 64x64, packed: it takes a minute to make."""


def lying(folder: Path, declared: int) -> Path:
    """That picture, with other sides declared."""
    data = bytearray(zlib.decompress(base64.b85decode(_CODED)))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, declared, declared)
    path = folder / "lying.avif"
    path.write_bytes(data)
    return path


def tasks(pid: int) -> list[dict[str, str]]:
    """The kernel's status of each thread of a process; none where it has ended."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            lines = (task / "status").read_text().splitlines()
            found.append(
                {name: told.strip() for name, _, told in (x.partition(":") for x in lines)}
            )
    return found


def sealed(pid: int) -> bool:
    found = tasks(pid)
    return bool(found) and all(
        (each["Seccomp"], each["NoNewPrivs"]) == ("2", "1") and int(each["CapEff"], 16) <= 0b110
        for each in found
    )


def opened(pid: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(link.readlink() == path for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


class Watch:
    """Collects which processes have a file open, and whether one was not sealed then."""

    def __init__(self, *paths: Path) -> None:
        self.paths, self.pids, self.open = [p.absolute() for p in paths], set[int](), set[int]()

    def __call__(self) -> bool:
        for pid in process_tree(os.getpid())[1:]:
            if any(opened(pid, path) for path in self.paths):
                self.pids.add(pid)
                if not sealed(pid) and tasks(pid):
                    self.open.add(pid)
        return bool(self.pids)


def watched(watch: Watch, work: Callable[[], object]) -> None:
    """Watches while `work` runs; what it raises does not matter."""

    def run() -> None:
        with contextlib.suppress(MediaError, EngineError):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        watch()
        time.sleep(0.002)
    thread.join()
    assert watch.pids
    assert watch.open == set()


def test_a_look_is_sealed(tmp_path: Path):
    slow = lying(tmp_path, 7000)
    watched(Watch(slow), lambda: sandbox.preview(slow, 64))


def test_a_preflight_look_and_a_cut_are_sealed(tmp_path: Path):
    inspector = Inspector()
    clip, part = samples.ASSETS / "clip.mp4", {"start": 0, "end": 2, "mode": "loop", "voice": 6.0}
    made = tmp_path / "x.mp4"
    try:
        watched(Watch(clip), lambda: inspector.inspect_frame(clip, 1.0))
        watched(
            Watch(clip), lambda: inspector.run_edit("cut_source", clip, made, lambda: True, **part)
        )
        assert list(tmp_path.iterdir()) == [made]
    finally:
        inspector.close()


def test_the_judge_is_sealed(tmp_path: Path):
    clip = samples.video(tmp_path / "clip.mp4", 25, sound=1.0)
    watched(Watch(clip), lambda: judge_in_process(clip))


def test_signing_and_reading_credentials_are_sealed(tmp_path: Path):
    video = tmp_path / "video.mp4"
    shutil.copy(samples.ASSETS / "clip.mp4", video)
    with video.open("ab") as file:  # so that it is open for long enough to be seen
        size = 100 * 1024**2
        file.write(size.to_bytes(4, "big") + b"mdat" + bytes(size - 8))
    signer = Signer(Settings(data_dir=tmp_path, signing_dir=tmp_path))
    production = combined(video, video, visible_mark=True)
    watched(Watch(video), lambda: signer.sign(video, production))
    watched(Watch(video), lambda: read(video))


def test_a_render_and_its_workers_are_sealed(live_service: LocalService, tmp_path: Path):
    voice = samples.recording(tmp_path / "long.wav", 40)
    caller = requests.Session()
    caller.trust_env = False
    caller.headers["X-API-Key"] = live_service.api_key.get_secret_value()
    url = f"{live_service.base_url}/v1/generate"
    with samples.PORTRAIT.open("rb") as image, voice.open("rb") as audio:
        files = {"image": image, "audio": audio}
        answer = caller.post(f"{url}/lipsync", files=files, timeout=30).json()
    workers, unsealed = set[int](), set[int]()
    deadline = time.monotonic() + SECONDS
    while not workers and time.monotonic() < deadline:
        for pid in process_tree(os.getpid()):
            # From its first moment: it inherits.
            if b"kolbo_demo.engine.segment_pool" in command_line(pid):
                workers.add(pid)
                if tasks(pid) and not sealed(pid):
                    unsealed.add(pid)
        time.sleep(0.01)
    caller.post(f"{url}/{answer['generation_id']}/cancel", timeout=30)
    assert workers, answer
    assert unsealed == set()


# What a look costs


@pytest.mark.parametrize("declared", [64, 7000])
def test_a_picture_costs_what_it_says_to_hold(tmp_path: Path, declared: int):
    with contextlib.ExitStack() as stack:
        if declared == 64:
            stack.enter_context(pytest.raises(MediaError))
        sandbox.preview(lying(tmp_path, declared), 64)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITS, str(declared**2)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    processor, memory = map(int, done.stdout.split())
    assert processor <= (4 if declared == 64 else 9)
    assert memory <= 256 * 1024**2 + 16 * declared**2


_LIMITS = """
import resource, sys
from kolbo_demo.process import confinement
held = confinement._address_space()
confinement.limit_resources_for_picture(int(sys.argv[1]))
print(resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_AS)[0] - held)
"""


@pytest.mark.parametrize("suffix", ["avif", "webp", "png", "tif", "gif", "jpg"])
def test_a_large_picture_is_reduced_before_it_is_worked_on(
    tmp_path: Path, suffix: str, monkeypatch
):
    """In any mode; what is shown stays what it was."""
    path = tmp_path / f"a.{suffix}"
    left = Image.new("RGB", (1500, 2000), "red")
    both = Image.new("RGB", (3000, 2000), "blue")
    both.paste(left, (0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    if suffix == "gif":
        both.save(path)
    else:
        both.save(path, exif=exif)
    worked_on: list[int] = []
    srgb = picture.to_srgb

    def counted(image: Image.Image, file: PictureFile) -> Image.Image:
        worked_on.append(image.width * image.height)
        return srgb(image, file)

    monkeypatch.setattr(picture, "to_srgb", counted)
    whole, small = media.upright_image(path), media.upright_image(path, min_pixels=100_000)
    assert worked_on[0] == 6_000_000
    assert worked_on[1] < 500_000
    assert (whole.width > whole.height) == (small.width > small.height)
    near, far = (0.25, 0.25), (0.75, 0.75)
    for x, y in (near, far):
        one, two = (
            np.asarray(each.getpixel((int(x * each.width), int(y * each.height))), int)
            for each in (whole, small)
        )
        assert abs(one - two).max() < 12

"""Names that lead elsewhere: links, devices, pipes, and files that are exchanged on the way."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kolbo_demo import safe_file
from kolbo_demo.safe_file import UnsafeFileError, link_or_copy, resolve_regular_file

SECRET = b"the secret of another\n" * 400
GIVEN = b"what the visitor gave\n" * 400
PLENTY = 1 << 20


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "uploads"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "given.png").write_bytes(GIVEN)
    return made


@pytest.fixture(params=[True, False], ids=["descriptors", "names"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of looking: the second serves where folders cannot be opened."""
    monkeypatch.setattr(safe_file, "_BY_DESCRIPTOR", request.param)


@pytest.fixture(params=[True, False], ids=["same disk", "other disk"])
def either_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hard links, and with copies because there can be none."""
    if not request.param:
        monkeypatch.setattr(safe_file, "_hard_link", lambda *_: False)


def nothing_left(folder: Path) -> bool:
    return not list(folder.glob(".*.part"))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    # The name of a socket must be short, wherever the test's folder is.
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


ODD = {
    "folder": lambda path: path.mkdir(),
    "pipe": pipe,
    "socket": bound,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to the environment": lambda path: path.symlink_to("/proc/self/environ"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}


@pytest.mark.usefixtures("either_way")
class TestRegularFile:
    def test_a_file_is_found(self, folder: Path) -> None:
        given = folder / "inner" / "given.png"
        assert resolve_regular_file(given, folder) == given.resolve()
        assert resolve_regular_file(str(given), folder / "inner") == given.resolve()

    def test_the_folder_may_be_reached_through_links(self, folder: Path, tmp_path: Path) -> None:
        linked = tmp_path / "linked"
        linked.symlink_to(folder)
        found = (folder / "inner" / "given.png").resolve()
        assert resolve_regular_file(linked / "inner" / "given.png", linked) == found
        assert resolve_regular_file(found, linked) == found

    @pytest.mark.parametrize(
        "name",
        ["a b.png", "שלום.png", "e\u0301.png", "\u202egnp.exe", "💋.mp4", "~", "-rf", "a\\b"],
    )
    def test_odd_names_are_names(self, folder: Path, name: str) -> None:
        path = folder / name
        path.write_bytes(GIVEN)
        assert resolve_regular_file(path, folder) == folder.resolve() / name

    def test_a_hard_link_is_a_file(self, folder: Path) -> None:
        second = folder / "second.png"
        second.hardlink_to(folder / "inner" / "given.png")
        assert resolve_regular_file(second, folder) == second.resolve()

    @pytest.mark.parametrize("make", ODD.values(), ids=ODD)
    def test_what_is_no_file_is_refused(self, folder: Path, make) -> None:
        odd = folder / "odd"
        make(odd)
        with pytest.raises(UnsafeFileError) as refused:
            resolve_regular_file(odd, folder)
        assert str(folder) not in str(refused.value)

    def test_a_link_is_refused_wherever_it_is(self, folder: Path, secret: Path) -> None:
        (folder / "last").symlink_to(secret)
        (folder / "middle").symlink_to(secret.parent)
        (folder / "inside").symlink_to(folder / "inner")
        (folder / "near").symlink_to(folder / "inner" / "given.png")
        for name in ("last", "middle/secret", "inside/given.png", "near", "last/", "last/."):
            with pytest.raises(UnsafeFileError):
                resolve_regular_file(f"{folder}/{name}", folder)

    @pytest.mark.parametrize(
        "given",
        [
            *("", ".", "..", "/", "inner/given.png", "~/.ssh/id_rsa", "file:///etc/passwd"),
            *("/etc/passwd", "/dev/zero", "/proc/self/environ", "/proc/1/fd/0"),
            *("{folder}", "{folder}/", "{folder}/../secret", "{folder}/inner/../inner/given.png"),
            *("{folder}/inner/given.png/..", "{folder}/inner/given.png/x", "{folder}x/secret"),
            *("{folder}\0/inner/given.png", "{folder}/inner/given.png\0.jpg", "\0"),
            *("{folder}/" + "a" * 300, "{folder}/" + "a/" * 5000 + "b", "{folder}/\ud800"),
            *("{folder}/INNER\u200b/given.png", "{folder}/inner\uff0fgiven.png"),
            "{folder}/\uff0e\uff0e/secret",
        ],
    )
    def test_names_that_lead_nowhere_here(self, folder: Path, secret: Path, given: str) -> None:
        with pytest.raises(UnsafeFileError) as refused:
            resolve_regular_file(given.replace("{folder}", str(folder)), folder)
        assert "\n" not in str(refused.value)
        assert str(folder) not in str(refused.value)

    def test_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(UnsafeFileError):
            resolve_regular_file(tmp_path / "gone" / "file", tmp_path / "gone")


@pytest.mark.usefixtures("either_disk")
class TestCopyRegular:
    def test_the_bytes_arrive(self, folder: Path) -> None:
        source, target = folder / "inner" / "given.png", folder / "copy.png"
        link_or_copy(source, target, PLENTY)
        link_or_copy(source, target, PLENTY)  # over itself
        assert target.read_bytes() == source.read_bytes() == GIVEN
        assert nothing_left(folder)

    def test_a_link_at_the_target_is_replaced(self, folder: Path, secret: Path) -> None:
        target = folder / "copy.png"
        target.symlink_to(secret)
        link_or_copy(folder / "inner" / "given.png", target, PLENTY)
        assert not target.is_symlink()
        assert secret.read_bytes() == SECRET

    @pytest.mark.parametrize("make", ODD.values(), ids=ODD)
    def test_what_is_no_file_is_not_copied(self, folder: Path, make) -> None:
        odd, target = folder / "odd", folder / "copy.png"
        make(odd)
        with pytest.raises((UnsafeFileError, OSError)):
            link_or_copy(odd, target, PLENTY)
        assert not os.path.lexists(target)
        assert nothing_left(folder)

    @pytest.mark.parametrize(
        "given", ["/dev/zero", "/proc/self/environ", "/proc/self/maps", "/proc/self/fd/{fd}"]
    )
    @pytest.mark.skipif(sys.platform != "linux", reason="/proc")
    def test_devices_and_made_up_files(self, folder: Path, secret: Path, given: str) -> None:
        target = folder / "copy.png"
        with secret.open("rb") as file, pytest.raises(UnsafeFileError):
            link_or_copy(Path(given.format(fd=file.fileno())), target, PLENTY)
        assert not target.exists()
        assert nothing_left(folder)

    def test_too_large_is_refused(self, folder: Path) -> None:
        source, target = folder / "inner" / "given.png", folder / "copy.png"
        with pytest.raises(UnsafeFileError, match="larger"):
            link_or_copy(source, target, len(GIVEN) - 1)
        assert not target.exists()
        assert nothing_left(folder)
        link_or_copy(source, target, len(GIVEN))

    def test_a_source_that_is_exchanged_gives_no_secret(self, folder: Path, secret: Path) -> None:
        """A thread exchanges the file for a link and back while it is copied."""
        source, target = folder / "inner" / "given.png", folder / "copy.png"
        with exchanged(source, secret) as swaps:
            tries = 0
            # Until the exchange has met the copy many times, however fast either is.
            while swaps[0] < 400 or tries < 400:
                tries += 1
                try:
                    link_or_copy(source, target, PLENTY)
                except (UnsafeFileError, OSError):
                    continue
                assert stat.S_ISREG(target.lstat().st_mode)
                assert target.read_bytes() == GIVEN
        assert secret.read_bytes() == SECRET
        assert nothing_left(folder)


class exchanged:  # noqa: N801 - a context manager
    """While it is open, `path` is by turns its file and a link to `secret`."""

    def __init__(self, path: Path, secret: Path) -> None:
        self._path, self._secret = path, secret
        self._swaps = [0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self._swaps

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        other_name = self._path.with_name("kept")
        other_name.hardlink_to(self._path)
        other = self._path.with_name("other")
        while not self._stop.is_set():
            other.symlink_to(self._secret)
            other.replace(self._path)
            other.hardlink_to(other_name)
            other.replace(self._path)
            self._swaps[0] += 1


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A folder on another file system than `tmp_path`, where there is one."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("no second file system")
    made = shared / f"kolbo-{os.getpid()}"
    made.mkdir()
    yield made
    subprocess.run(["rm", "-r", str(made)], check=True)


def test_a_copy_between_file_systems(folder: Path, mounted: Path) -> None:
    source = folder / "inner" / "given.png"
    link_or_copy(source, mounted / "copy.png", PLENTY)
    assert (mounted / "copy.png").read_bytes() == GIVEN
    assert stat.S_IMODE((mounted / "copy.png").stat().st_mode) == 0o600
    (mounted / "link").symlink_to(source)
    with pytest.raises(UnsafeFileError):
        link_or_copy(mounted / "link", folder / "copy.png", PLENTY)

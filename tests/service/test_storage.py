"""Files by name, in a folder and in a store of objects: the same behaviour."""

import contextlib
import os
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.storage import backends
from kolbo_demo.service.storage.files import Storage

NAME = "inputs/lip_0a1b/source"


@pytest.fixture(scope="session")
def bucket(s3_endpoint: str) -> str:
    system = fsspec.filesystem("s3", endpoint_url=s3_endpoint)
    system.mkdir("files")
    return "s3://files"


@pytest.fixture(params=["folder", "another disk", "s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    if request.param == "folder":
        yield None
    elif request.param == "another disk":
        shared = Path("/dev/shm") / f"kolbo-test-{secrets.token_hex(4)}"
        if not shared.parent.is_dir() or tmp_path.stat().st_dev == shared.parent.stat().st_dev:
            shared = tmp_path / "shared"
        yield str(shared)
        shutil.rmtree(shared)
    elif request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/{secrets.token_hex(4)}"
    else:
        yield f"memory://{secrets.token_hex(4)}"


@pytest.fixture
def storage(url: str | None, tmp_path: Path) -> Storage:
    made = Storage(tmp_path / "machine", url)
    made.prepare()
    return made


@pytest.fixture
def other(url: str | None, storage: Storage, tmp_path: Path) -> Storage:
    """Another machine; with no URL there is none."""
    if url is None:
        return storage
    made = Storage(tmp_path / "other", url)
    made.prepare()
    return made


def written(storage: Storage, name: str, content: bytes) -> None:
    with storage.create(name) as file:
        file.write(content)


def test_a_file_is_visible_once_complete(storage: Storage, other: Storage):
    content = os.urandom(20 * 1024**2)  # several blocks
    with storage.create(NAME) as file:
        file.write(content)
        file.flush()
        assert not other.exists(NAME)
        assert other.list_children("inputs") in ([], ["lip_0a1b"])
    assert other.exists(NAME)
    assert other.local(NAME).read_bytes() == content
    assert storage.local(NAME).read_bytes() == content


def test_an_aborted_file_does_not_exist(storage: Storage, other: Storage):
    with contextlib.suppress(ConnectionError), storage.create(NAME) as file:
        file.write(b"half")
        raise ConnectionError
    assert not other.exists(NAME)
    assert other.list_children("inputs") == []
    with pytest.raises(FileNotFoundError):
        other.local(NAME).read_bytes()


def test_a_file_is_published_and_checked_out(storage: Storage, other: Storage):
    with storage.workspace("lip_0a1b") as folder:
        made = folder / "video.mp4"
        made.write_bytes(b"pixels")
        storage.publish(made, "results/9f3c.mp4")
        assert not made.exists()
    assert not folder.exists()
    with other.workspace("lip_0a1b") as folder:
        assert other.checkout("results/9f3c.mp4", folder).read_bytes() == b"pixels"
    assert other.local("results/9f3c.mp4").read_bytes() == b"pixels"


def test_names_are_listed_and_removed_for_all(storage: Storage, other: Storage):
    for name in ("inputs/lip_a/source", "inputs/lip_a/audio", "inputs/lip_b/source"):
        written(storage, name, b"x")
    assert other.local("inputs/lip_a/source").read_bytes() == b"x"
    assert other.list_children("inputs") == ["lip_a", "lip_b"]
    assert other.list_children("inputs/lip_a") == ["audio", "source"]
    storage.delete("inputs/lip_a")
    storage.delete("inputs/lip_nobody")
    assert other.list_children("inputs") == ["lip_b"]
    assert not other.exists("inputs/lip_a/source")
    assert not storage.exists("inputs/lip_a/source")
    other.delete("inputs/lip_b/source")
    assert not storage.exists("inputs/lip_b/source")


def test_an_empty_file_is_stored(storage: Storage, other: Storage):
    written(storage, NAME, b"")
    assert other.exists(NAME)
    assert other.local(NAME).read_bytes() == b""


@pytest.mark.parametrize(
    "name",
    ["../x", "results/../x", "/etc/passwd", "results//x", "", ".", "a/.", "a\\b", "x.mp4.", "a/*",
     "results/x?y", "ü", "a b", "a\n", "s3://b/x", "a" + chr(0)],
)  # fmt: skip
def test_invalid_names_are_refused(storage: Storage, name: str):
    for act in (storage.local, storage.exists, storage.delete, storage.list_children):
        with pytest.raises(ValueError, match="not a storage name"):
            act(name)
    with pytest.raises(ValueError, match="not a storage name"), storage.create(name) as file:
        file.write(b"x")


def test_the_cache_of_remote_files_is_limited(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backends, "CACHE_BYTES", 3000)
    storage = Storage(tmp_path, f"{bucket}/{secrets.token_hex(4)}")
    storage.prepare()
    with storage.workspace("lip_1") as folder:
        written(storage, "results/0.mp4", b"0" * 1000)
        checked_out = storage.checkout("results/0.mp4", folder)
        for number in range(1, 8):
            written(storage, f"results/{number}.mp4", b"1" * 1000)
        copies = list((tmp_path / "work" / "cache").iterdir())
        assert sum(file.stat().st_size for file in copies) <= 3000
        assert checked_out.read_bytes() == b"0" * 1000, "in use"
    assert storage.local("results/0.mp4").read_bytes() == b"0" * 1000


def test_concurrent_reads_fetch_a_file_once(storage: Storage, other: Storage):
    content = os.urandom(10 * 1024**2)
    written(storage, NAME, content)
    got = []
    threads = [threading.Thread(target=lambda: got.append(other.local(NAME))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == content for path in got] == [True] * 8
    assert len({path.stat().st_ino for path in got}) == 1


def _nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("url", ["nonsense://x", "s3://there-is-no-such-bucket", "s3://files"])
def test_an_unusable_storage_url_is_reported_at_start(
    bucket: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if url == "s3://files":
        monkeypatch.setenv("AWS_ENDPOINT_URL", _nowhere())
        fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(ServiceError, match="KOLBO_STORAGE_URL"):
        Storage(tmp_path, url).prepare()
    fsspec.filesystem("s3").clear_instance_cache()

"""A visitor may fill what is his of the disk, and nobody else's."""

import http.client
import io
import os
import stat
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from kolbo_demo import clock, ui
from kolbo_demo.client import InputError
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.settings import Settings
from kolbo_demo.ui.background import batches
from kolbo_demo.ui.background.batches import Batches
from kolbo_demo.ui.gate import upload_quota
from kolbo_demo.ui.storage import disk, folders, quota
from kolbo_demo.ui.storage.generation_store import RESULT, GenerationStore, Record
from kolbo_demo.ui.storage.quota import Quota, QuotaError, salt_in
from kolbo_demo.ui.storage.uploads import Uploads
from tests.scripted import media_dir, no_settings, portrait, speech  # noqa: F401 - fixtures
from tests.ui.serving import serving
from tests.waiting import wait

MB = 10**6
ANNE, BEN, CARL = "198.51.100.1", "198.51.100.2", "2001:db8:1:2::7"


class Page:
    """A public page behind a proxy: its visitors have addresses of their own."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.data, self.uploads = home / "data", home / "gradio"

    def upload(
        self, size: int, visitor: str = ANNE, *, field: str = "files", name: str | None = "a.bin"
    ) -> requests.Response:
        # No two uploads of a test have the same bytes.
        content = os.urandom(64) + bytes(size - 64)
        return requests.post(
            f"{self.url}/gradio_api/upload",
            files={field: (name, io.BytesIO(content))},
            headers={"X-Forwarded-For": visitor},
            timeout=60,
        )

    def taken(self) -> int:
        return sum(path.stat().st_size for path in self.files())

    def files(self) -> list[Path]:
        """Whatever was uploaded. Units of nobody are there before any visitor."""
        found = [path for path in self.uploads.rglob("*") if path.is_file()]
        return [path for path in found if path.suffix == ".bin" or path.name.startswith("tmp")]

    def units(self) -> list[str]:
        return [path.name for path in self.uploads.iterdir() if len(path.name) == 22]

    def open(self, visitor: str = ANNE, length: int = 50 * MB) -> http.client.HTTPConnection:
        """An upload whose head is sent, and 1 MB of its file."""
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.putrequest("POST", "/gradio_api/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=xyz")
        connection.putheader("Content-Length", str(length))
        connection.putheader("X-Forwarded-For", visitor)
        connection.endheaders()
        head = '--xyz\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
        connection.send(head.encode() + bytes(MB))
        return connection


@contextmanager
def page(home: Path, *, private: bool = False, **settings: object) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(home / "gradio"))
        known = Settings.model_validate({"data_dir": home / "data", **settings})
        local = ui.Local("http://127.0.0.1:9/api", SecretStr("kolbo_live_" + "1" * 40))
        with serving(known, local, private=private) as url:
            yield Page(url, home)


def test_uploads_end_at_a_visitor_s_bound(tmp_path: Path) -> None:
    with page(tmp_path, visitor_disk_gb=0.05) as site:
        answers = [site.upload(20 * MB) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 413, 413]
        assert "0.05 GB" in answers[2].text
        assert site.taken() <= 50 * MB
        assert len(site.units()) == 2
        assert site.upload(20 * MB, BEN).status_code == 200
        # One household of IPv6 is one visitor.
        statuses = [
            site.upload(20 * MB, f"2001:db8:1:2::{last}").status_code for last in range(1, 4)
        ]
        assert statuses == [200, 200, 413]


def test_many_small_uploads_meet_the_bound_too(tmp_path: Path) -> None:
    # With room for the step of an upload that was answered and is not yet ended.
    with page(tmp_path, visitor_disk_gb=0.004) as site:
        statuses = []
        while not statuses or statuses[-1] == 200:
            assert len(statuses) < 80
            statuses.append(site.upload(64).status_code)
        assert statuses[-1] == 413
        assert len(site.units()) == len(statuses) - 1
        # Nor do parts without a file pile up.
        assert site.upload(64, BEN, field="other").status_code == 200
        assert site.upload(64, BEN, name=None).status_code == 400
        wait(lambda: len(site.units()) == len(statuses) - 1)  # removed after Gradio's answer
        assert all(path.suffix == ".bin" for path in site.files())


def test_the_visitor_with_most_makes_room_for_others(tmp_path: Path) -> None:
    with page(tmp_path, visitor_disk_gb=0.05, page_disk_gb=0.07) as site:
        [first] = site.upload(20 * MB, ANNE).json()
        [second] = site.upload(20 * MB, ANNE).json()
        [little] = site.upload(10 * MB, BEN).json()
        [third] = site.upload(25 * MB, CARL).json()
        assert [Path(path).exists() for path in (first, second, little, third)] == [
            False,
            True,
            True,
            True,
        ]
        assert site.taken() <= 70 * MB
        # More of him takes nothing of those who have less.
        assert site.upload(15 * MB, CARL).status_code == 200
        assert Path(little).exists()


def test_with_nothing_to_take_an_upload_is_refused(tmp_path: Path) -> None:
    with page(tmp_path, visitor_disk_gb=0.05, page_disk_gb=0.02) as site:
        upload = site.upload(9 * MB, ANNE)
        answer = site.upload(30 * MB, BEN)
        assert answer.status_code == 507
        assert "no room" in answer.text
        assert upload.status_code == 200
        assert Path(upload.json()[0]).exists()
        assert site.taken() <= 20 * MB


def test_a_broken_upload_leaves_nothing(tmp_path: Path) -> None:
    with page(tmp_path) as site:
        for _ in range(3):
            connection = site.open()
            wait(site.files)
            connection.close()
            wait(lambda: not site.units())
        assert site.files() == []


def test_an_upload_that_was_killed_goes_at_the_next_start(tmp_path: Path) -> None:
    store = Uploads(tmp_path / "gradio", Quota())
    whole, half = (store.folder(store.make(ANNE)) for _ in range(2))
    (whole / "0123").mkdir()
    (half / "tmpabcdef").write_bytes(bytes(1000))
    with page(tmp_path):
        assert whole.exists()
        assert not half.exists()


@pytest.mark.parametrize("slow", ["IDLE_SECONDS", "LONGEST_SECONDS"])
def test_a_stalled_upload_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    monkeypatch.setattr(upload_quota, slow, 0.5)
    with page(tmp_path) as site:
        answer = site.open().getresponse()
        assert answer.status == 408
        wait(lambda: not site.units())
        assert site.files() == []


def test_so_many_uploads_at_once(tmp_path: Path) -> None:
    with page(tmp_path) as site, ExitStack() as stack:
        for _ in range(upload_quota.AT_ONCE):
            stack.callback(site.open().close)
        wait(lambda: len(site.files()) == upload_quota.AT_ONCE)
        assert site.upload(1000).status_code == 429
        assert site.upload(1000, BEN).status_code == 200
        stack.close()
        wait(lambda: len(site.units()) == 1)
        assert site.upload(1000).status_code == 200


def test_what_is_under_way_counts(tmp_path: Path) -> None:
    with page(tmp_path, visitor_disk_gb=0.03) as site, ExitStack() as stack:
        for _ in range(3):  # of a few MB each
            stack.callback(site.open().close)
        wait(lambda: len(site.files()) == 3)
        assert site.upload(27 * MB).status_code == 413


def test_fields_without_a_file_do_not_fill_the_memory(tmp_path: Path) -> None:
    with page(tmp_path) as site:
        answer = site.upload(60 * MB, name=None)
        assert answer.status_code == 413
        assert "files only" in answer.text
        assert site.units() == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_upload_of_many_files_holds_few_open(tmp_path: Path) -> None:
    with page(tmp_path) as site:
        part = (
            '--xyz\r\nContent-Disposition: form-data; name="files"; filename="{}.bin"\r\n\r\n{}\r\n'
        )
        body = "".join(part.format(number, number) for number in range(900)).encode()
        connection = site.open(length=200 * MB)
        before = len(list(Path("/proc/self/fd").iterdir()))
        connection.send(b"\r\n" + body)
        wait(lambda: len(site.files()) >= 895)
        wait(lambda: len(list(Path("/proc/self/fd").iterdir())) < before + 100)
        connection.close()
        wait(lambda: not site.units())


def test_the_owner_at_a_private_page_is_bound_in_all_only(tmp_path: Path) -> None:
    with page(tmp_path, private=True, visitor_disk_gb=0.01, page_disk_gb=0.05) as site:
        files = {"files": ("a.bin", io.BytesIO(bytes(20 * MB)))}
        own = requests.post(f"{site.url}/gradio_api/upload", files=files, timeout=60)
        assert own.status_code == 200
        # A tunnel brings others to the same page.
        assert site.upload(20 * MB, ANNE).status_code == 413


def test_folders_are_this_user_s_alone(tmp_path: Path, portrait: Path) -> None:  # noqa: F811
    before = os.umask(0)
    try:
        (tmp_path / "gradio").mkdir(mode=0o777)
        with page(tmp_path) as site:
            site.upload(1000)
            store = GenerationStore(site.data / "page")
            record = store.new(request(portrait), "local")
            folders_ = [site.uploads, site.data / "page", site.data / "batches"]
            folders_ += [site.uploads / site.units()[0], store.folder(record.ticket)]
            assert [stat.S_IMODE(path.stat().st_mode) for path in folders_] == [0o700] * 5
            secrets = [store.folder(record.ticket) / "record.json", site.data / ".visitors"]
            assert [stat.S_IMODE(path.stat().st_mode) for path in secrets] == [0o600] * 2
    finally:
        os.umask(before)


def test_no_address_is_stored(tmp_path: Path) -> None:
    with page(tmp_path) as site:
        site.upload(1000, ANNE)
        for path in tmp_path.rglob("*"):
            assert ANNE not in path.name
            assert not path.is_file() or ANNE.encode() not in path.read_bytes()


def test_a_restart_remembers_whose_is_what(tmp_path: Path) -> None:
    with page(tmp_path, visitor_disk_gb=0.03) as site:
        assert site.upload(20 * MB).status_code == 200
        [unit] = site.units()
        owner = (site.uploads / unit / ".owner").read_text()
    for bound, enough in ((0.03, False), (0.05, True)):
        anew = Quota(1e9, bound * 1e9, salt_in(tmp_path / "data"))
        store = Uploads(tmp_path / "gradio", anew)
        other = store.folder(store.make(ANNE))
        assert (other / ".owner").read_text() == owner
        (tmp_path / "gradio" / unit / "again.bin").write_bytes(bytes(25 * MB))  # Gradio cleaned it
        anew.changed()
        if enough:
            anew.check(ANNE)
            continue
        with anew.writing(other, ANNE) as writing, pytest.raises(QuotaError):
            writing.grow(10 * MB)


# Generations


def request(portrait: Path) -> GenerationRequest:  # noqa: F811
    return GenerationRequest(portrait, portrait)


def ended(store: GenerationStore, given: Path, visitor: str, size: int = 0) -> Record:
    """A generation of a visitor that has a result of so many bytes."""
    record = store.new(request(given), "local", visitor=visitor)
    (store.folder(record.ticket) / RESULT).write_bytes(bytes(size))
    record.end = "done"
    store.save(record)
    return record


def test_a_file_with_many_names_counts_once(tmp_path: Path) -> None:
    given = tmp_path / "given.png"
    given.write_bytes(bytes(20 * MB))
    bound = Quota(50 * MB, 50 * MB)
    store = GenerationStore(tmp_path / "page", bound)
    tickets = [ended(store, given, ANNE).ticket for _ in range(8)]  # 16 names
    bound.fit()
    assert all(store.get(ticket) for ticket in tickets)
    assert not ended(store, given, BEN).error


def test_results_count_and_the_next_start_is_refused(tmp_path: Path, portrait: Path) -> None:  # noqa: F811
    bound = Quota(100 * MB, 20 * MB)
    store = GenerationStore(tmp_path / "page", bound)
    first = ended(store, portrait, ANNE, 21 * MB)
    bound.changed()  # as time does
    with pytest.raises(InputError, match="delete some of your videos"):
        store.new(request(portrait), "local", visitor=ANNE)
    with pytest.raises(InputError):
        store.opened("lip_1", "local", ANNE)
    store.new(request(portrait), "local", visitor=BEN)
    store.delete(first.ticket)
    store.new(request(portrait), "local", visitor=ANNE)


def test_what_is_busy_stays(tmp_path: Path, portrait: Path) -> None:  # noqa: F811
    bound = Quota(30 * MB)
    store = GenerationStore(tmp_path / "page", bound)
    running = store.new(request(portrait), "local", visitor=ANNE)
    (store.folder(running.ticket) / RESULT).write_bytes(bytes(25 * MB))
    done = ended(store, portrait, ANNE, 4 * MB)
    small = ended(store, portrait, BEN, 1 * MB)
    (store.folder(small.ticket) / "more").write_bytes(bytes(3 * MB))
    bound.changed()
    bound.fit()
    assert store.get(running.ticket)
    assert store.get(small.ticket)
    assert store.get(done.ticket) is None


@pytest.mark.parametrize("days", [8, -8])
def test_a_clock_that_jumps_removes_nothing(
    tmp_path: Path,
    portrait: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    days: int,
) -> None:
    store = GenerationStore(tmp_path / "page")
    monkeypatch.setattr(folders, "SWEEP_SECONDS", 0)
    real = time.time
    before = ended(store, portrait, ANNE)
    monkeypatch.setattr(time, "time", lambda: real() + days * 86400)
    after = ended(store, portrait, ANNE)
    now = clock.now()
    jumped = real() + days * 86400
    os.utime(store.folder(after.ticket), (jumped, jumped))
    store.make(BEN)
    assert now <= real() + 1
    assert store.get(before.ticket)
    assert store.get(after.ticket)


def test_what_is_truly_old_goes(tmp_path: Path, portrait: Path, monkeypatch) -> None:  # noqa: F811
    store = GenerationStore(tmp_path / "page")
    monkeypatch.setattr(folders, "SWEEP_SECONDS", 0)
    old = ended(store, portrait, ANNE)
    long_ago = time.time() - folders.KEEP_SECONDS - 60
    os.utime(store.folder(old.ticket), (long_ago, long_ago))
    store.make(BEN)
    assert store.get(old.ticket) is None


def bytes_below(folder: Path) -> int:
    """While others write and remove there."""
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            size += sum(file.stat().st_size for file in path.iterdir() if file.name != ".owner")
    return size


def test_many_threads_stay_under_the_bound(tmp_path: Path) -> None:
    bound = Quota(100 * MB, 20 * MB)
    store = Uploads(tmp_path / "gradio", bound)
    most = []

    def write() -> None:
        for number in range(40):
            folder = store.folder(store.make(ANNE))
            try:
                with bound.writing(folder, ANNE) as writing:
                    for _ in range(4):
                        writing.grow(250_000)
                        with (folder / f"{number}").open("ab") as file:
                            file.write(bytes(250_000))
            except QuotaError:
                disk.remove(folder)
            most.append(bytes_below(tmp_path / "gradio"))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 5 * MB < max(most) <= 20 * MB


# Batches


@pytest.fixture
def bound() -> Quota:
    return Quota(1000 * MB, 900 * MB)


@pytest.fixture
def store(tmp_path: Path, bound: Quota) -> Batches:
    return Batches(tmp_path / "batches", private=False, quota=bound)


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pairs(path: Path, size: int, count: int = 1) -> Path:
    """An archive of pairs that unpack to as many bytes as they take packed."""
    files = {f"{number}.txt": b"Hello." for number in range(count)}
    files |= {f"{number}.png": os.urandom(size // count) for number in range(count)}
    return packed(path, files, zipfile.ZIP_STORED)


def test_a_bomb_is_refused_early(store: Batches, tmp_path: Path) -> None:
    bomb = packed(tmp_path / "b.zip", {f"{n}.png": bytes(8 * MB) for n in range(5)})
    with pytest.raises(InputError, match="unpacks to far more"):
        store.check([("b.zip", bomb)], None, visitor=ANNE)
    assert list((tmp_path / "batches").iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bz2", "xz"])
def test_a_bomb_that_bursts_in_memory(store: Batches, tmp_path: Path, method: int) -> None:
    """zipfile unpacks each piece of these whole, however long it becomes."""
    bomb = packed(tmp_path / "b.zip", {"a.txt": b"Hi.", "a.png": bytes(64 * MB)}, method)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="could not be unpacked"):
            store.check([("b.zip", bomb)], None, visitor=ANNE)
        assert tracemalloc.get_traced_memory()[1] < 16 * MB
    finally:
        tracemalloc.stop()
    assert list((tmp_path / "batches").iterdir()) == []


@pytest.mark.parametrize("name", ["\U0001f48b" * 200 + ".png", "a" * 400 + ".png", "\ud800.png"])
def test_odd_names_of_uploads_break_nothing(
    store: Batches,
    tmp_path: Path,
    portrait: Path,  # noqa: F811
    name: str,
) -> None:
    words = tmp_path / "a.txt"
    words.write_text("Hi.")
    files = [(name, portrait), (name.replace(".png", ".txt"), words)]
    assert store.check(files, None, visitor=ANNE)


def test_media_that_pack_well_are_taken(store: Batches, tmp_path: Path) -> None:
    silence = packed(tmp_path / "b.zip", {"a.txt": b"Hi.", "a.png": bytes(9 * MB)})
    assert store.check([("b.zip", silence)], None, visitor=ANNE)


def test_a_list_of_files_too_long_is_not_read(store: Batches, tmp_path: Path) -> None:
    """All of it would be held in memory, a hundred bytes for each of it."""
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(90):
            entry = zipfile.ZipInfo(f"{number}/")
            entry.comment = bytes(60_000)
            archive.writestr(entry, b"")
    with pytest.raises(InputError, match="Too many files"):
        store.check([("b.zip", path)], None, visitor=ANNE)
    assert list((tmp_path / "batches").iterdir()) == []


def test_a_batch_of_a_public_page_is_smaller(
    store: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PUBLIC_BYTES", 2**20)
    given = [("b.zip", pairs(tmp_path / "b.zip", 2 * MB))]
    with pytest.raises(InputError, match="1 MB at most"):
        store.check(given, None, visitor=ANNE)
    private = Batches(tmp_path / "private", private=True)
    assert private.check(given, None)
    assert list((tmp_path / "batches").iterdir()) == []


def test_unpacking_counts_on_a_disk_that_is_slow_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "REST", 1e9)  # so that it is measured once
    bound = Quota(100 * MB, 10 * MB)
    store = Batches(tmp_path / "batches", private=False, quota=bound)
    with pytest.raises(QuotaError):
        store.check([("b.zip", pairs(tmp_path / "b.zip", 12 * MB, 4))], None, visitor=ANNE)
    assert list((tmp_path / "batches").iterdir()) == []
    assert store.check([("b.zip", pairs(tmp_path / "b.zip", 6 * MB, 4))], None, visitor=ANNE)
    with bound.writing(tmp_path / "x", ANNE) as writing, pytest.raises(QuotaError):
        writing.grow(5 * MB)  # by another way, too


def test_a_second_check_replaces_the_first(store: Batches, tmp_path: Path) -> None:
    given = [("b.zip", pairs(tmp_path / "b.zip", MB))]
    others = store.check(given, None, visitor=BEN)
    tickets = [store.check(given, None, visitor=ANNE) for _ in range(5)]
    left = {path.name for path in (tmp_path / "batches").iterdir()}
    assert left == {others, tickets[-1]}


def test_what_was_started_is_not_replaced(store: Batches, tmp_path: Path) -> None:
    given = [("b.zip", pairs(tmp_path / "b.zip", MB))]
    started = store.check(given, None, visitor=ANNE)
    store.write(started, "batch.json", b"{}")
    store.check(given, None, visitor=ANNE)
    assert store.view(started)


def test_what_was_never_started_goes_after_an_hour(
    store: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SWEEP_SECONDS", 0)
    given = [("b.zip", pairs(tmp_path / "b.zip", MB))]
    started, checked = (store.check(given, None) for _ in range(2))
    store.write(started, "batch.json", b"{}")
    hour_ago = time.time() - 3700
    for ticket in (started, checked):
        os.utime(store.folder(ticket), (hour_ago, hour_ago))
    store.check(given, None, visitor=BEN)
    assert store.view(started)
    assert store.view(checked) is None


def test_sessions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    local = ui.Local("http://127.0.0.1:9/api", SecretStr("kolbo_live_" + "1" * 40))
    built = ui.build(Settings(data_dir=tmp_path / "data"), local)
    from fastapi import FastAPI

    ui.mount(FastAPI(), built)
    holder = built.blocks.state_holder
    for number in range(520):
        holder.session_data[f"s{number}"] = holder["first"]
        holder.update(f"s{number}")
    assert len(holder.session_data) <= 500

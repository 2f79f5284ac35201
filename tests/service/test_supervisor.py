"""A disk that is full or read-only, a database that is locked, lost or replaced: callers hear why,
nothing is half written, and all goes on by itself once the cause is gone.

The disk is a small one of the test's own, in a mount namespace that dies with the service.
"""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.browser import site
from tests.service.conftest import Caller
from tests.service.server_process import ROOT, ServerProcess, decode, rows
from tests.waiting import wait

DISK_MB = 300
_MOUNT = f'mount -t tmpfs -o size={DISK_MB}m none "$0" && exec "$@"'
_UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def _works(*command: str) -> bool:
    return (
        bool(shutil.which(command[0]))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.fixture
def serve(tmp_path):
    lives: list[ServerProcess] = []

    def start(*prefix: str) -> ServerProcess:
        lives.append(ServerProcess(tmp_path, prefix=prefix))
        return lives[-1]

    yield start
    for life in lives:
        life.kill()


def health(api) -> tuple[int, dict]:
    reply = requests.get(f"{api.base.removesuffix('/api')}/healthz", timeout=10)
    return reply.status_code, reply.json()


def ready(api) -> bool:
    return health(api)[0] == 200


@pytest.fixture
def small_disk(serve, tmp_path):
    """A service on a disk of its own, and that disk as this process reaches it."""
    if not _works("unshare", "-rm", "true"):
        pytest.skip("no mount namespaces here")
    life = serve("unshare", "-rm", "sh", "-c", _MOUNT, str(tmp_path))
    return life.caller(), Path(f"/proc/{life.process.pid}/root{tmp_path}")


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all room but so many bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        while True:
            stat = os.statvfs(disk)
            size = stat.f_bavail * stat.f_frsize - leave
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:  # a render took some of it meanwhile
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return filler


def test_a_full_disk(small_disk, files, refused):
    api, disk = small_disk
    running = api.start(files=files(12.0))
    api.until(running, lambda status: status["progress"] > 0)
    filler = fill(disk)
    # What runs cannot be stored, and waits; what comes is refused with a reason.
    reply = api.lipsync(files=files())
    assert reply.json()["code"] in ("STORAGE_FULL", "SERVICE_UNAVAILABLE")
    assert "try again later" in refused(reply, 503, reply.json()["code"])
    assert int(reply.headers["Retry-After"]) > 0
    wait(lambda: not ready(api))
    assert "No space left" in health(api)[1]["problem"]
    wait(lambda: not list((disk / "work").iterdir()))
    assert api.status(running)["state"] == "processing"
    assert not list((disk / "results").iterdir())
    filler.unlink()
    wait(lambda: ready(api))
    for generation in (running, api.start(files=files())):
        status = api.finish(generation)
        assert status["state"] == "completed", status
        name = status["result"]["urls"][0].rpartition("/")[2]
        assert decode(disk / "results" / name) == status["result"]["frames"]
    assert not list((disk / "inputs").iterdir())
    assert not list((disk / "work").iterdir())


def test_a_disk_that_fills_up_during_an_upload(small_disk, files, refused):
    api, disk = small_disk
    boundary = "x"
    parts = [
        f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        + f'name="{name}"; filename="a"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, (_, data) in files().items()
    ]

    def body():
        yield parts[0][:-2]
        wait(lambda: list((disk / "work").iterdir()))
        filler = fill(disk, 100_000)
        yield b"\0" * 1_000_000
        yield b"\r\n" + parts[1] + f"--{boundary}--\r\n".encode()
        fillers.append(filler)

    fillers: list[Path] = []
    reply = api.lipsync(
        data=body(), headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert "No space left" in refused(reply, 503, "STORAGE_FAILED")
    assert not list((disk / "inputs").iterdir())
    assert not list((disk / "work").iterdir())
    fillers[0].unlink()
    wait(lambda: ready(api))
    assert api.finish(api.start(files=files()))["state"] == "completed"


@pytest.fixture
def unprivileged():
    """What a command needs in front of it so that permissions bind it."""
    if os.geteuid():
        return []
    if not _works(*_UNPRIVILEGED, "true"):
        pytest.skip("root here, and permissions do not bind root")
    return _UNPRIVILEGED


def _set_mode(folder: Path, mode: int) -> None:
    for path in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        path.chmod(mode)


def test_a_folder_that_becomes_read_only(serve, unprivileged, tmp_path, files, refused):
    api = serve(*unprivileged).caller()
    before = api.start(files=files())
    assert api.finish(before)["state"] == "completed"
    _set_mode(tmp_path, 0o500)
    try:
        wait(lambda: not ready(api))
        said = refused(api.lipsync(files=files()), 503, "SERVICE_UNAVAILABLE")
        assert "Permission denied" in said
        assert api.status(before)["state"] == "completed"
        assert requests.get(api.status(before)["result"]["urls"][0], timeout=10).ok
    finally:
        _set_mode(tmp_path, 0o700)
    wait(lambda: ready(api))
    assert api.finish(api.start(files=files()))["state"] == "completed"


def test_a_result_that_can_never_be_stored_fails_its_generation(
    serve, unprivileged, tmp_path, files
):
    """All else can be written, so that nothing but each attempt tells of the trouble."""
    api = serve(*unprivileged).caller()
    (tmp_path / "results").chmod(0o500)
    try:
        generation = api.start(files=files())
        status = api.finish(generation)
    finally:
        (tmp_path / "results").chmod(0o700)
    assert status["state"] == "failed"
    assert status["failure"]["code"] == "STORAGE_FAILED"
    assert status["failure"]["retryable"] is True
    assert "could not keep" in status["error"]
    for name in ("inputs", "work", "results"):
        assert not list((tmp_path / name).iterdir())
    assert api.finish(api.start(files=files()))["state"] == "completed"


def test_a_folder_that_is_read_only_from_the_start(unprivileged, tmp_path):
    tmp_path.chmod(0o500)
    try:
        run = subprocess.run(
            [*unprivileged, sys.executable, "-m", "kolbo_demo", "serve", "--port", "0"],
            env=os.environ | {"KOLBO_DATA_DIR": str(tmp_path / "data")},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        tmp_path.chmod(0o700)
    assert run.returncode == 2
    assert "Permission denied" in run.stderr
    assert "KOLBO_DATA_DIR" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_locked_database(serve, tmp_path, files, refused):
    api = serve().caller()
    running = api.start(files=files())
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    wait(lambda: not ready(api))
    said = refused(api.lipsync(files=files()), 503, "SERVICE_UNAVAILABLE")
    assert "locked" in said
    assert api.status(running)["state"] == "processing"  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    wait(lambda: ready(api))
    assert api.finish(running)["state"] == "completed"
    assert api.finish(api.start(files=files()))["state"] == "completed"
    assert set(rows(tmp_path).values()) == {"SUCCESS"}


def test_a_start_that_cannot_be_written_in_time_is_refused_and_undone(serve, tmp_path, files):
    """The lock falls when the upload has begun: too late to be refused before."""
    api = serve().caller()
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    reply = api.lipsync(files=files())
    assert reply.status_code == 503
    assert reply.json()["code"] in ("DATABASE_UNAVAILABLE", "SERVICE_UNAVAILABLE")
    assert time.monotonic() - begun < 25
    other.execute("ROLLBACK")
    other.close()
    wait(lambda: ready(api), 60)
    wait(lambda: not list((tmp_path / "inputs").iterdir()), 60)
    # One that is written after all is withdrawn a moment later.
    wait(lambda: set(rows(tmp_path).values()) <= {"CANCELLED"}, 60)


@pytest.mark.parametrize("remaining", ["nothing", "an empty file"])
def test_a_deleted_database_is_replaced_by_an_empty_one(serve, tmp_path, files, refused, remaining):
    life = serve()
    api = life.caller()
    completed, running = api.start(files=files()), api.start(files=files(8.0))
    [url] = api.finish(completed)["result"]["urls"]
    for file in tmp_path.glob("jobs.sqlite*"):
        file.unlink()
    database = tmp_path / "jobs.sqlite"
    if remaining == "an empty file":  # as a new connection leaves it
        database.touch()
    wait(lambda: database.exists() and database.stat().st_size and ready(api))
    assert [line for line in life.lines if "was deleted; put it back" in line]
    assert [line for line in life.lines if "starting with an empty one" in line]
    for generation in (completed, running):
        refused(api.get(f"/v1/generate/{generation}/status"), 404, "GENERATION_NOT_FOUND")
    assert requests.get(url, timeout=10).content[4:8] == b"ftyp"
    assert api.finish(api.start(files=files()))["state"] == "completed"
    assert list(rows(tmp_path).values()) == ["SUCCESS"]
    assert not list((tmp_path / "inputs").iterdir())
    assert not list((tmp_path / "work").iterdir())


def test_a_database_restored_from_a_backup_is_used(serve, tmp_path, files):
    api = serve().caller()
    known = api.start(files=files())
    assert api.finish(known)["state"] == "completed"
    backup = tmp_path / "backup.sqlite"
    with sqlite3.connect(tmp_path / "jobs.sqlite") as source, sqlite3.connect(backup) as copy:
        source.backup(copy)
    later = api.start(files=files())
    assert api.finish(later)["state"] == "completed"
    for ending in ("-wal", "-shm"):
        (tmp_path / f"jobs.sqlite{ending}").unlink(missing_ok=True)
    backup.replace(tmp_path / "jobs.sqlite")
    wait(lambda: api.get(f"/v1/generate/{later}/status").status_code == 404)
    assert api.status(known)["state"] == "completed"
    wait(lambda: ready(api))
    assert api.finish(api.start(files=files()))["state"] == "completed"


def test_an_unexpected_database_error(serve, tmp_path, files, refused):
    """A table is gone that only a look at progress needs, so nothing else notices."""
    life = serve()
    api = life.caller()
    prompt = "subtle, qzprompt"
    running = api.start(files=files(60.0), data={"prompt": prompt})
    api.until(running, lambda status: status["progress"] > 0)
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None, timeout=10)
    other.execute("ALTER TABLE workflow_events RENAME TO elsewhere")
    try:
        path = f"/v1/generate/{running}/status"
        reply = wait(lambda: not (found := api.get(path)).ok and [found])[0]  # not a cached status
        said = refused(reply, 503, "DATABASE_UNAVAILABLE")
        assert "workflow" not in said
        assert int(reply.headers["Retry-After"]) > 0
    finally:
        other.execute("ALTER TABLE elsewhere RENAME TO workflow_events")
        other.close()
    assert api.finish(running)["state"] == "completed"
    assert [line for line in life.lines if "refused" in line]
    assert "qzprompt" not in "".join(life.lines)


def test_a_service_beside_a_page_retries_its_start(tmp_path, files, refused):
    (tmp_path / "data").write_text("in the way")
    with site.serve(tmp_path, TMPDIR=str(tmp_path)) as found:
        api = Caller(f"{found.url}/api", site.KEY)
        code, said = health(api)
        assert code == 503
        assert "KOLBO_DATA_DIR" in said["problem"]
        assert "KOLBO_DATA_DIR" in refused(api.lipsync(files=files()), 503, "SERVICE_UNAVAILABLE")
        (tmp_path / "data").unlink()
        wait(lambda: ready(api))
        assert api.finish(api.start(files=files()))["state"] == "completed"

"""One caller cannot hold the queue, the fetches or the uploads for everybody."""

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.machines import postgres, site
from tests.service.conftest import (
    _SERVE,
    Caller,
    Web,
    files,
    other_process,
    portrait,
    refused,
    speech,
    web,
)
from tests.waiting import wait

__all__ = ["files", "other_process", "portrait", "postgres", "site", "speech", "web"]

Files = Callable[..., dict[str, Any]]
Serving = Callable[..., tuple[Caller, Caller, Caller]]
LONG = 120.0
"""Seconds of speech: far longer in the making than anything a test waits for."""
_SETUP = """
import os
os.environ["KOLBO_LOCAL_API_KEY"] = "first-key,second-key,third-key"
from kolbo_demo.service import app, job_queue, queues, rate_limit, retention, submission
queues.default_concurrency = lambda: 1
app.Limits = lambda: rate_limit.Limits(generations=1000, polls=100000{limits})
{more}
"""


@pytest.fixture
def callers(other_process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """Start a service of one render at a time; three callers of it."""
    monkeypatch.setenv("KOLBO_FETCH_ALLOW_HOSTS", "localhost")

    def start(limits: str = "", more: str = "") -> tuple[Caller, Caller, Caller]:
        first = other_process(tmp_path, _SETUP.format(limits=limits, more=more) + _SERVE).caller()
        return first, Caller(first.base, "second-key"), Caller(first.base, "third-key")

    return start


def started(folder: Path) -> dict[str, int]:
    """When each generation has begun, in milliseconds, in that order."""
    database = sqlite3.connect(f"file:{folder / 'jobs.sqlite'}?mode=ro", uri=True)
    try:
        rows = database.execute(
            "SELECT workflow_uuid, started_at_epoch_ms FROM workflow_status WHERE name = 'lipsync' "
            "AND started_at_epoch_ms IS NOT NULL ORDER BY started_at_epoch_ms, workflow_uuid"
        ).fetchall()
    finally:
        database.close()
    return dict(rows)


def test_ten_long_voices_of_one_caller_delay_no_other(
    callers: Serving, tmp_path: Path, files: Files
):
    greedy, other, third = callers()
    crowd = [greedy.start(files=files(LONG)) for _ in range(10)]
    wait(lambda: started(tmp_path))
    for caller in (other, third):
        assert caller.finish(caller.start(files=files()))["state"] == "completed"
    assert {greedy.status(one)["state"] for one in crowd} == {"processing"}


def test_callers_are_served_in_rotation(callers: Serving, tmp_path: Path, files: Files):
    first, second, third = callers()
    long = first.start(files=files(LONG))
    wait(lambda: started(tmp_path))
    mine = [first.start(files=files()) for _ in range(2)]
    theirs = [(caller, caller.start(files=files())) for caller in (second, third) * 2]
    for caller, one in theirs:
        assert caller.finish(one)["state"] == "completed"
    # Nobody of whom nothing renders waits for the long one; its caller does.
    begun = started(tmp_path)
    assert begun[long] == min(begun.values())
    assert not set(mine) & set(started(tmp_path))
    first.cancel(long)
    assert {first.finish(one)["state"] for one in mine} == {"completed"}


def test_a_turn_of_each_goes_before_the_second_of_any(
    callers: Serving, tmp_path: Path, files: Files
):
    """With no spare places: the order of the queue itself."""
    first, second, third = callers(
        more="job_queue.SPARE_SLOTS = 0; job_queue.JobQueue.fill_spare_slots = lambda _: None"
    )
    long = first.start(files=files(LONG))
    wait(lambda: started(tmp_path))
    crowd = [first.start(files=files()) for _ in range(3)]
    others = [second.start(files=files()), third.start(files=files())]
    later = [second.start(files=files()), third.start(files=files())]
    first.cancel(long)
    for caller, all_of_one in ((first, crowd), (second, [others[0], later[0]])):
        assert {caller.finish(one)["state"] for one in all_of_one} == {"completed"}
    assert third.finish(later[1])["state"] == "completed"
    begun = started(tmp_path)  # those of one look at the queue at the same moment
    first_round = [begun[one] for one in others]
    second_round = [begun[one] for one in (crowd[0], *later)]
    assert max(first_round) <= min(second_round)
    assert max(second_round) <= min(begun[one] for one in crowd[1:])


def test_jobs_of_an_older_release_complete(
    other_process, tmp_path: Path, files: Files, web: Web, monkeypatch: pytest.MonkeyPatch
):
    """Without a turn, a caller or a partition, and with links in the queue of that time."""
    monkeypatch.setenv("KOLBO_FETCH_ALLOW_HOSTS", "localhost")
    first = other_process(tmp_path)
    api = first.caller()
    source = web.serve("/face.jpg", files()["image"][1])
    audio = web.serve("/voice.wav", files()["audio"][1])
    long = api.start(files=files(LONG))
    wait(lambda: started(tmp_path))
    uploaded = api.start(files=files())
    linked = api.start(json={"source_url": source, "audio_url": audio})
    first.process.kill()
    first.process.wait()
    database = sqlite3.connect(tmp_path / "jobs.sqlite")
    with database:
        database.execute(
            "UPDATE workflow_status SET priority = 0, queue_partition_key = NULL, status = "
            "'ENQUEUED', queue_name = CASE workflow_uuid WHEN ? THEN 'links' ELSE 'lipsync' END "
            "WHERE workflow_uuid IN (?, ?)",
            (linked, uploaded, linked),
        )
        database.execute(
            "UPDATE workflow_input SET inputs = json_remove(inputs, "
            "'$.positionalArgs[0].caller', '$.positionalArgs[0].turn')"
        )
        [(inputs,)] = database.execute(
            "SELECT inputs FROM workflow_input WHERE workflow_uuid = ?", (linked,)
        )
    database.close()
    assert source in inputs
    assert "turn" not in inputs
    api = other_process(tmp_path).caller()
    api.cancel(long)
    for generation in (uploaded, linked):
        assert api.finish(generation)["state"] == "completed"


def test_slow_links_leave_fetches_to_other_callers(callers: Serving, files: Files, web: Web):
    greedy, other, _ = callers()
    slow, over = web.drip("/drip.jpg")
    crowd = [greedy.start(json={"source_url": slow, "audio_url": slow}) for _ in range(16)]
    wait(lambda: len(web.requests) == 4)
    source = web.serve("/face.jpg", files()["image"][1])
    audio = web.serve("/voice.wav", files()["audio"][1])
    fetched = other.start(json={"source_url": source, "audio_url": audio})
    assert other.finish(fetched)["state"] == "completed"
    assert [path for path, _ in web.requests].count("/drip.jpg") == 4
    # The rest of the same caller comes as its places become free.
    for one in crowd[:4]:
        greedy.cancel(one)
    wait(lambda: [path for path, _ in web.requests].count("/drip.jpg") == 8)
    for one in crowd:
        greedy.cancel(one)
    over.set()


def test_unfinished_generations_of_one_caller_are_bounded(callers: Serving, files: Files):
    greedy, other, _ = callers(limits=", unfinished=3")
    crowd = [greedy.start(files=files(LONG)) for _ in range(3)]
    for more in ({"files": files()}, {"json": {"source_url": "x"}}):
        reply = greedy.lipsync(**more)
        assert "unfinished" in refused(reply, 429, "RATE_LIMITED")
        assert int(reply.headers["Retry-After"]) >= 1
    assert other.finish(other.start(files=files()))["state"] == "completed"
    greedy.cancel(crowd[2])
    greedy.cancel(greedy.start(files=files(LONG)))


class Upload:
    """A start request that announces much and sends what it is told to."""

    def __init__(self, api: Caller, announced: int, key: str | None = None) -> None:
        url = urlsplit(api.base)
        self.socket = socket.create_connection((url.hostname or "", url.port or 0), timeout=60)
        part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        self.socket.sendall(
            f"POST {url.path}/v1/generate/lipsync HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"X-API-Key: {key or api.key}\r\nContent-Length: {announced}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            + part
        )

    def answer(self) -> tuple[int, str]:
        """The status and what follows it, once it comes."""
        text = b""
        while b"\r\n\r\n" not in text or b"}" not in text:
            if not (more := self.socket.recv(65536)):
                break
            text += more
        return int(text.split()[1]), text.decode()

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def uploads() -> Iterator[list[Upload]]:
    made: list[Upload] = []
    yield made
    for one in made:
        one.close()


def made_files(folder: Path) -> int:
    return sum(1 for file in (folder / "work").rglob("*") if file.is_file())


def test_an_announced_length_reserves_no_space(
    callers: Serving, tmp_path: Path, files: Files, uploads, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KOLBO_MAX_DISK_GB", "0.2")
    greedy, other, _ = callers()
    uploads += [Upload(greedy, 150_000_000) for _ in range(5)]
    wait(lambda: made_files(tmp_path) == 5)
    assert other.finish(other.start(files=files()))["state"] == "completed"


def test_an_upload_that_runs_out_of_space_leaves_nothing(
    callers: Serving, tmp_path: Path, files: Files, portrait: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KOLBO_MAX_DISK_GB", "0.01")
    api, other, _ = callers()
    reply = api.lipsync(files=files(image=portrait + b"\0" * 20_000_000))
    assert "no room" in refused(reply, 503, "STORAGE_FULL")
    assert reply.headers["Retry-After"]
    assert made_files(tmp_path) == 0
    assert list((tmp_path / "inputs").iterdir()) == []
    assert other.finish(other.start(files=files()))["state"] == "completed"


def test_a_stalled_upload_to_the_service_is_aborted(callers: Serving, tmp_path: Path, uploads):
    api, *_ = callers(more="submission.UPLOAD_IDLE_TIMEOUT_SECONDS = 0.5")
    uploads.append(Upload(api, 1_000_000))
    wait(lambda: made_files(tmp_path) == 1)
    for _ in range(10):  # as long as it goes on coming it may be slow
        uploads[0].socket.sendall(b"x" * 100)
        time.sleep(0.1)
    status, text = uploads[0].answer()
    assert (status, "REQUEST_TIMEOUT" in text) == (408, True)
    assert made_files(tmp_path) == 0


def test_uploads_of_one_caller_are_bounded(callers: Serving, tmp_path: Path, files, uploads):
    greedy, other, _ = callers()
    uploads += [Upload(greedy, 1_000_000) for _ in range(8)]
    wait(lambda: made_files(tmp_path) == 8)
    reply = greedy.lipsync(files=files())
    assert "at a time" in refused(reply, 429, "RATE_LIMITED")
    assert int(reply.headers["Retry-After"]) >= 1
    assert other.finish(other.start(files=files()))["state"] == "completed"
    uploads.pop().close()
    wait(lambda: greedy.lipsync(files=files()).status_code == 200, interval=0.25)


_STUCK = """
import threading, anyio, asyncio
import kolbo_demo.service.app as app
make = app.create_app
over = threading.Event()
def stuck():
    over.wait(120)
def create_app(*args, **more):
    made = make(*args, **more)
    made.add_api_route("/stuck", stuck)
    return made
app.create_app = create_app
"""


def test_an_exhausted_thread_pool_of_the_page_delays_no_response(callers: Serving, files: Files):
    api, *_ = callers(more=_STUCK)
    generation = api.start(files=files())
    [url] = api.finish(generation)["result"]["urls"]
    root = api.base.removesuffix("/api")
    address = (urlsplit(root).hostname or "", urlsplit(root).port or 0)
    stuck = [socket.create_connection(address) for _ in range(60)]
    try:
        for one in stuck:
            one.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        # One that is answered shows that those before it were read.
        time.sleep(0.5)
        for path in (f"{root}/healthz", f"{root}/metrics", url):
            assert requests.get(path, timeout=10).status_code == 200
        part = requests.get(url, headers={"Range": "bytes=4-7"}, timeout=10)
        assert part.content == b"ftyp"
        assert api.get("/v1/models").status_code == 200
        assert api.get("/v1/account/credits").status_code == 200
        assert api.status(generation)["state"] == "completed"
        assert api.cancel(api.start(files=files(LONG))).status_code == 200
    finally:
        for one in stuck:
            one.close()


_SLOW_DATABASE = """
import time
from kolbo_demo.service import database
load = job_queue.JobQueue.load
job_queue.JobQueue.load = lambda self: (time.sleep(5), load(self))[1]
problem = job_queue.JobQueue.engine_problem
job_queue.JobQueue.engine_problem = lambda self: (time.sleep(5), problem(self))[1]
"""


def test_healthz_waits_for_no_database(callers: Serving):
    api, *_ = callers(more=_SLOW_DATABASE)
    begun = time.monotonic()
    for _ in range(20):
        assert requests.get(f"{api.base.removesuffix('/api')}/healthz", timeout=10).ok
    assert time.monotonic() - begun < 5


def test_json_that_costs_much_is_refused(callers: Serving):
    api, *_ = callers()
    deep, many = b"[" * 100_000, b"[" + b"{}," * 300_000 + b"{}]"
    for hostile in (deep, many, b'{"a":' * 40 + b"1" + b"}" * 40):
        reply = api.lipsync(data=hostile, headers={"Content-Type": "application/json"})
        assert refused(reply, 400, "INVALID_JSON").startswith("The JSON ")
        fields = {"bounding_box_target": hostile[:60_000].decode()}
        reply = api.lipsync(data=fields, files={"audio": ("a.wav", b"x")})
        refused(reply, 400, "INVALID_BOUNDING_BOX_TARGET")


def test_workers_serve_callers_in_rotation(site, files: Files):
    keys = {"KOLBO_LOCAL_API_KEY": "test-key,other-key"}
    _, base = site.start_page(**keys)
    site.start_worker(2)
    greedy, other = Caller(base, "test-key"), Caller(base, "other-key")
    crowd = [greedy.start(files=files(LONG)) for _ in range(4)]
    at_work = "SELECT count(*) FROM dbos.workflow_status WHERE name = 'lipsync'"
    wait(lambda: site.query(f"{at_work} AND status = 'PENDING'") == [(2,)])
    assert other.finish(other.start(files=files(1.0)))["state"] == "completed"
    # Its long one is made beside those of the first, segment by segment.
    long = other.start(files=files(32.0))
    assert other.finish(long)["state"] == "completed"
    assert {greedy.status(one)["state"] for one in crowd} == {"processing"}
    for one in crowd:
        greedy.cancel(one)

"""Several machines: pages that accept, workers that render, PostgreSQL and a store between them.

Each machine is a process with a disk of its own. They die in the middle.
"""

import io
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import psycopg
import pytest
import requests
from PIL import Image

from benchmarks.cluster import Cluster, Node, Postgres
from benchmarks.process_stats import cpu_seconds
from kolbo_demo.credentials.reading import read
from kolbo_demo.engine import render_plan as engine_segments
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.render import render
from tests.machines import Cable, files_of, pid_of, postgres, s3_endpoint, segments, site
from tests.service.conftest import Caller, alive, root
from tests.waiting import wait

__all__ = ["postgres", "s3_endpoint", "site"]

LONG = 32.0
"""Seconds of speech: three segments."""
SHARED = 16.0
"""Two segments, one for each of two workers: who is left has nothing else to make first."""
TAKEOVER_SECONDS = 15.0


@pytest.fixture(scope="module")
def portrait() -> bytes:
    """A JPEG with a face, of a size at which a segment takes some seconds: several times as long as
    a worker needs to notice one, so that two workers share."""
    with Image.open(Path(__file__).parents[2] / "assets" / "portrait.jpg") as image:
        out = io.BytesIO()
        image.resize((320, 320)).save(out, "JPEG")
        return out.getvalue()


def caller(base: str) -> Caller:
    return Caller(base, "test-key")


def video_of(status: dict[str, Any]) -> bytes:
    assert status["state"] == "completed", status
    [url] = status["result"]["urls"]
    reply = requests.get(url, timeout=30)
    assert reply.status_code == 200
    part = requests.get(url, headers={"Range": "bytes=4-7"}, timeout=30)
    assert (part.status_code, part.content) == (206, b"ftyp")
    return reply.content


def check(video: bytes, seconds: float) -> list[np.ndarray]:
    """Every frame once and in time, sound without a gap; the frames, small."""
    with av.open(io.BytesIO(video), "r") as file:
        picture, sound = file.streams.video[0], file.streams.audio[0]
        rate = picture.average_rate
        assert rate is not None
        times, frames = [], []
        for frame in file.decode(picture):
            times.append(frame.time)
            frames.append(frame.reformat(32, 32, "gray").to_ndarray().astype(int))
        assert np.allclose(np.diff(times), 1 / float(rate), atol=1e-3)
        assert len(frames) == round(seconds * rate)
        file.seek(0)
        packets = [packet for packet in file.demux(sound) if packet.pts is not None]
        ends = [(packet.pts or 0, packet.duration or 0) for packet in packets]
        for (start, length), (following, _) in pairwise(ends):
            assert following == start + length
    return frames


def members(crew: Node) -> list[int]:
    """The processes that have begun to work, dead ones too."""
    words = [word.rstrip(".") for word in crew.output().split()]
    return [int(word) for word in words if word.isdecimal()]


def test_two_workers_share_a_long_generation_through_s3(
    site: Cluster, s3_endpoint: str, files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import fsspec

    system = fsspec.filesystem("s3", endpoint_url=s3_endpoint)
    system.mkdir("kolbo-scale")
    site.storage = "s3://kolbo-scale/lipsync"
    _, base = site.start_page()
    workers = site.start_worker(2)
    api = caller(base)
    short = api.start(files=files(1.0))
    long = api.start(files=files(LONG))
    status = api.finish(long)
    video = video_of(status)
    frames = check(video, LONG)
    # As if it had not been divided: no frame is missing, repeated or moved where the parts meet,
    for name, (_, data) in files(LONG).items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(engine_segments, "SEGMENT_SECONDS", LONG)
    render(tmp_path / "image", tmp_path / "audio", tmp_path / "undivided.mp4", workers=1)
    undivided = check((tmp_path / "undivided.mp4").read_bytes(), LONG)
    apart = [np.abs(one - other).mean() for one, other in zip(frames, undivided, strict=True)]
    assert max(apart) < 1, "what encoding costs"
    # and nowhere does the sound slip or drop out.
    (tmp_path / "divided.mp4").write_bytes(video)
    found = read(tmp_path / "divided.mp4")
    assert (found.state, [each.role for each in found.ingredients]) == (
        "intact",
        ["source", "voice"],
    )
    joined, expected = load_voice(tmp_path / "divided.mp4"), load_voice(tmp_path / "audio")
    for start in range(0, len(expected) - 1600, 1600):
        part = np.s_[start : start + 1600]
        if np.abs(expected[part]).max() > 0.05:
            assert np.corrcoef(joined[part], expected[part])[0, 1] > 0.97
    check(video_of(api.finish(short)), 1.0)
    assert status["result"]["model"]
    assert {s for s, _ in segments(site, long).values()} == {"SUCCESS"}
    who = {pid_of(executor) for _, executor in segments(site, long).values()}
    assert who == set(members(workers))
    stored = [name.split("/", 2)[2] for name in system.find("kolbo-scale")]
    assert sorted(name.partition("/")[0] for name in stored) == ["results"] * 4, stored
    assert workers.terminate() == 0
    assert files_of(tmp_path / "machine-1") == []


@pytest.fixture
def cables(postgres: Postgres) -> Iterator[list[Cable]]:
    """Ways to the database, one for each of two machines."""
    made = [Cable(postgres.port), Cable(postgres.port)]
    yield made
    for cable in made:
        cable.close()


def reached_by(cable: Cable, site: Cluster, postgres: Postgres) -> Node:
    """A worker whose way to the database may be cut."""
    url = site.url.replace(f":{postgres.port}/", f":{cable.port}/")
    return site.start("worker", "--processes", "1", KOLBO_DATABASE_URL=url)


@pytest.mark.parametrize("blow", ["killed", "frozen", "cut off"])
def test_a_lost_worker_s_segments_are_taken_over(
    site: Cluster, postgres: Postgres, cables: list[Cable], files, blow: str
):
    _, base = site.start_page()
    workers = {}
    for cable in cables:
        worker = reached_by(cable, site, postgres)
        workers[worker.pid] = worker, cable
    for worker, _ in workers.values():
        worker.wait_for_output(lambda output: "Working" in output)
    api = caller(base)
    generation = api.start(files=files(SHARED))

    def both_render() -> dict[int, list[str]]:
        at_work: dict[int, list[str]] = {}
        for name, (state, executor) in segments(site, generation).items():
            if state == "PENDING":
                at_work.setdefault(pid_of(executor), []).append(name)
        return at_work if len(at_work) == 2 else {}

    at_work = wait(both_render)
    [(parent,)] = site.query(
        f"SELECT executor_id FROM dbos.workflow_status WHERE workflow_uuid = '{generation}'"
    )
    lost = pid_of(parent)  # it holds the generation itself too
    left = [*at_work[lost], generation]
    worker, cable = workers.pop(lost)
    if blow == "cut off":
        cable.cut()
    else:
        os.kill(lost, signal.SIGKILL if blow == "killed" else signal.SIGSTOP)
    begun = time.monotonic()

    def taken_over() -> bool:
        rows = site.query(
            "SELECT workflow_uuid, status, executor_id FROM dbos.workflow_status "
            f"WHERE workflow_uuid IN ({', '.join(repr(name) for name in left)})"
        )
        return all(s != "ENQUEUED" and pid_of(executor) != lost for _, s, executor in rows)

    wait(taken_over, TAKEOVER_SECONDS)
    assert time.monotonic() - begun < TAKEOVER_SECONDS
    # Back, with work that is not its own any more.
    if blow == "frozen":
        os.kill(lost, signal.SIGCONT)
    elif blow == "cut off":
        cable.mend()
    status = api.finish(generation)
    check(video_of(status), SHARED)
    assert len(segments(site, generation)) == 2
    shared = Path(site.storage)
    wait(lambda: [path.suffix for path in files_of(shared)] == [".jpg", ".mp4"], 20)
    if blow != "killed":
        [(other, _)] = workers.values()
        assert other.terminate() == 0
        check(video_of(api.finish(api.start(files=files(1.0)))), 1.0)
        assert worker.terminate() == 0
        assert "Traceback" not in worker.output()


def test_a_worker_cut_off_within_a_transaction_blocks_no_other(
    site: Cluster, postgres: Postgres, cables: list[Cable], files
):
    _, base = site.start_page()
    cable = cables[0]
    worker = reached_by(cable, site, postgres)
    worker.wait_for_output(lambda output: "Working" in output)
    api = caller(base)
    generation = api.start(files=files(SHARED))

    def holder() -> int | None:
        [(state, executor)] = site.query(
            "SELECT status, executor_id FROM dbos.workflow_status "
            f"WHERE workflow_uuid = '{generation}'"
        )
        return pid_of(executor) if state == "PENDING" else None

    lost = wait(holder)
    # As it tells that it lives: its row stays locked.
    cable.cut_within(b"INSERT INTO kolbo_processes")
    site.start_workers(1)
    wait(lambda: holder() not in (None, lost), TAKEOVER_SECONDS)
    cable.mend()
    check(video_of(api.finish(generation)), SHARED)
    assert worker.terminate() == 0


def test_cancelling_ends_every_segment_within_a_second(site: Cluster, files, renders):
    _, base = site.start_page()
    workers = site.start_workers(2)
    api = caller(base)
    generation = api.start(files=files(2 * LONG))

    def children() -> list[list[int]]:
        return [renders(worker.pid) for worker in workers]

    wait(lambda: all(children()))
    time.sleep(0.5)
    at_work = [child for each in children() for child in each]
    assert api.cancel(generation).json()["state"] == "cancelled"
    wait(lambda: not any(map(alive, at_work)), 1.5)
    assert api.status(generation)["state"] == "cancelled"
    assert {state for state, _ in segments(site, generation).values()} <= {"CANCELLED", "SUCCESS"}
    wait(lambda: files_of(Path(site.storage)) == [], 5)
    check(video_of(api.finish(api.start(files=files(1.0)))), 1.0)


def test_a_segment_that_crashes_fails_the_generation(site: Cluster, files, renders):
    _, base = site.start_page()
    [worker] = site.start_workers(1)
    api = caller(base)
    generation = api.start(files=files(2 * LONG))
    wait(lambda: any(state == "PENDING" for state, _ in segments(site, generation).values()))
    for child in wait(lambda: renders(worker.pid)):  # it may have begun to join already
        os.kill(child, signal.SIGSEGV)
    status = api.finish(generation)
    assert status["state"] == "failed"
    assert status["failure"]["code"] == "ENGINE_CRASHED"
    wait(lambda: not renders(worker.pid), 5)
    wait(lambda: files_of(Path(site.storage)) == [], 5)


def test_the_database_may_go_away_for_a_while(site: Cluster, files, postgres):
    _, base = site.start_page()
    site.start_workers(1)
    api = caller(base)
    generation = api.start(files=files(LONG))
    api.until(generation, lambda status: status["progress"] > 5)
    postgres.stop()
    time.sleep(2)
    postgres.start()

    def ended() -> bool:
        """Until the page has noticed that the database is back it answers 503, as to any client."""
        time.sleep(0.25)  # it takes 300 polls a minute
        reply = api.get(f"/v1/generate/{generation}/status")
        assert reply.status_code in (200, 503), reply.text
        return reply.status_code == 200 and reply.json()["state"] != "processing"

    wait(ended)
    check(video_of(api.finish(generation)), LONG)


def test_a_worker_pool_exits_with_its_parent_and_replaces_dead_workers(site: Cluster):
    chief = site.start_worker(2)
    first, second = members(chief)
    os.kill(first, signal.SIGKILL)
    third = wait(lambda: members(chief)[2:])[0]
    chief.kill()
    wait(lambda: not any(alive(pid) for pid in (second, third)), 5)
    assert "Traceback" not in chief.output()


def test_a_long_queue_costs_the_page_nothing(site: Cluster, files):
    page, base = site.start_page()
    api = caller(base)
    waiting = api.start(files=files())
    with psycopg.connect(site.url) as connection:
        connection.execute(
            "CREATE TEMP TABLE copies AS SELECT queued.* FROM dbos.workflow_status AS queued, "
            "generate_series(1, 50000)"
        )
        connection.execute("UPDATE copies SET workflow_uuid = 'lip_' || gen_random_uuid()")
        connection.execute("INSERT INTO dbos.workflow_status SELECT * FROM copies")
    wait(lambda: requests.get(f"{root(api)}/healthz", timeout=10).json()["queue"] == 50_001)

    before = cpu_seconds(page.pid)
    time.sleep(5)
    assert cpu_seconds(page.pid) - before < 0.6
    assert api.status(waiting)["state"] == "processing"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"KOLBO_DATABASE_URL": ""}, "KOLBO_DATABASE_URL"),
        ({"KOLBO_DATABASE_URL": "mysql://u:hidden@127.0.0.1/x"}, "postgresql://"),
        ({"KOLBO_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/x"}, "KOLBO_DATABASE_URL"),
        ({"KOLBO_STORAGE_URL": "nonsense://x"}, "KOLBO_STORAGE_URL"),
    ],
)
def test_a_worker_that_cannot_start_reports_why(
    site: Cluster, changed: dict[str, str], message: str
):
    worker = site.start("worker", "--processes", "1", **changed)
    assert worker.process.wait(60) == 2
    said = worker.output()
    assert message in said.splitlines()[-1]
    assert "hidden" not in said
    assert "Traceback" not in said

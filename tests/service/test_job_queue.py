"""Generations under way: progress, cancelling, crashes, and lives longer than a process."""

import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from PIL import Image

from benchmarks.process_stats import process_tree
from kolbo_demo.service import progress
from kolbo_demo.service.render_worker import LOADING_NAME
from kolbo_demo.service.storage.files import Storage
from tests.hostile import bounds
from tests.service.conftest import alive, called
from tests.waiting import wait

LONG = 30.0
"""Seconds of speech: enough to be caught rendering."""


@pytest.fixture(autouse=True)
def _nothing_else_renders(live_service, renders):
    """What an earlier test has cancelled dies a moment later."""
    wait(lambda: not renders(os.getpid()))


def test_progress_counts_frames_and_rises_to_100(api, files):
    generation = api.start(files=files(30.0))
    percentages = set()
    status = api.until(
        generation, lambda s: percentages.add(s["progress"]) or s["state"] != "processing"
    )
    assert status["state"] == "completed", status
    assert len(percentages - {0, 100}) >= 2


def test_generations_sent_at_once_each_get_their_own_video(api, files):
    lengths = [0.4, 0.6, 0.8]
    with ThreadPoolExecutor() as pool:
        ids = list(pool.map(lambda seconds: api.start(files=files(seconds)), lengths))
        done = list(pool.map(api.finish, ids))
    assert len(set(ids)) == 3
    assert [round(s["result"]["duration"], 1) for s in done] == lengths
    assert len({s["result"]["urls"][0] for s in done}) == 3


def test_cancelling_frees_the_processor_within_a_second(
    api, files, refused, renders, service_folder, caplog
):
    generation = api.start(files=files(LONG))
    [child] = wait(lambda: renders(os.getpid()))
    time.sleep(0.5)
    reply = api.cancel(generation)
    cancelled = time.monotonic()
    assert reply.json() == {
        "success": True,
        "generation_id": generation,
        "state": "cancelled",
        "credits_refunded": 0,
    }
    wait(lambda: child not in renders(os.getpid()), seconds=1)
    assert time.monotonic() - cancelled < 1
    assert api.status(generation)["state"] == "cancelled"
    refused(api.cancel(generation), 409, "GENERATION_ENDED")
    wait(lambda: not (service_folder / "inputs" / generation).exists())
    wait(lambda: not list((service_folder / "work").glob(f"{generation}.*")))
    assert "render crashed" not in caplog.messages


def test_a_render_and_its_workers_have_resource_limits(api, files, renders):
    generation = api.start(files=files(LONG))
    [child] = wait(lambda: renders(os.getpid()))
    for pid in (child, *wait(lambda: renders(child, b"kolbo_demo.engine.segment_pool"))):
        found = bounds(pid)
        assert int(found["Max address space"]) < 12 * 1024**3
        assert int(found["Max cpu time"]) < 300 + 300 * LONG
        assert found["Max core file size"] == "0"
    api.cancel(generation)


@pytest.mark.parametrize("end", ["cancelled", "killed"])
def test_the_workers_of_a_long_render_are_as_nice_and_end_with_it(api, files, renders, end):
    generation = api.start(files=files(LONG))
    [child] = wait(lambda: renders(os.getpid()))
    workers = wait(lambda: renders(child, b"kolbo_demo.engine.segment_pool"))
    assert os.getpriority(os.PRIO_PROCESS, workers[0]) > os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getsid(child) == os.getsid(0), "in a session of its own it would be nice to nobody"
    if end == "cancelled":
        api.cancel(generation)
    else:
        os.kill(child, signal.SIGKILL)
    wait(lambda: not any(alive(worker) for worker in workers), seconds=2)
    assert api.finish(generation)["state"] == ("cancelled" if end == "cancelled" else "failed")


def test_the_video_of_a_cancelled_generation_is_deleted(api, files, service_folder, monkeypatch):
    """Not even while it is being stored."""
    begun, cancelled = threading.Event(), threading.Event()
    publish = Storage.publish

    def slow(storage: Storage, path: Path, name: str) -> None:
        if name.startswith("results/"):
            begun.set()
            assert cancelled.wait(10)
        publish(storage, path, name)

    monkeypatch.setattr(Storage, "publish", slow)
    before = {file.name for file in (service_folder / "results").iterdir()}
    generation = api.start(files=files())
    assert begun.wait(30)
    assert api.cancel(generation).json()["state"] == "cancelled"
    cancelled.set()
    wait(lambda: list((service_folder / "work").iterdir()) == [])
    wait(lambda: {file.name for file in (service_folder / "results").iterdir()} == before, 3)


def test_a_waiting_generation_can_be_cancelled(api, files, service_folder):
    crowd = [api.start(files=files(LONG)) for _ in range(max(1, (os.cpu_count() or 2) // 2))]
    waiting = api.start(files=files())
    assert api.cancel(waiting).json()["state"] == "cancelled"
    assert not (service_folder / "inputs" / waiting).exists()
    for generation in crowd:
        api.cancel(generation)
        assert api.status(generation)["state"] == "cancelled"
    assert api.status(waiting)["state"] == "cancelled"


def test_polls_of_waiting_generations_read_no_progress(api, files, monkeypatch):
    read = set()

    def recorded(generation, *arguments):
        read.add(generation)
        return percent(generation, *arguments)

    percent = progress.percent
    monkeypatch.setattr(progress, "percent", recorded)
    crowd = [api.start(files=files(LONG)) for _ in range(max(1, (os.cpu_count() or 2) // 2) + 2)]
    assert [api.status(generation)["state"] for generation in crowd] == ["processing"] * len(crowd)
    assert api.until(crowd[0], lambda status: status["progress"] > 0)
    assert crowd[0] in read
    assert crowd[-1] not in read
    for generation in crowd:
        api.cancel(generation)


def test_a_finished_generation_cannot_be_cancelled(api, files, refused):
    generation = api.start(files=files())
    assert api.finish(generation)["state"] == "completed"
    assert "completed" in refused(api.cancel(generation), 409, "GENERATION_ENDED")
    assert api.status(generation)["state"] == "completed"


def _noise(name: str, size: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((size, size), 50).save(out, name)
    return out.getvalue()


@pytest.mark.parametrize(
    "changed",
    [
        {"image": _noise("JPEG", 400)[:5000]},
        {"image": None, "video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 5000},
        {"image": _noise("PNG", 1)},
        {"image": _noise("JPEG", 200)},
    ],
    ids=["truncated-jpeg", "broken-mp4", "one-pixel", "no-face"],
)
def test_an_unusable_file_fails_with_a_message(api, files, service_folder, changed):
    generation = api.start(files=files(**changed))
    status = api.finish(generation)
    assert status["success"] is True
    assert status["state"] == "failed"
    assert status["error"] == status["failure"]["message"]
    assert status["failure"]["category"] == "input"
    assert status["failure"]["retryable"] is False
    assert "Traceback" not in status["error"]
    assert "/" not in status["error"], "a path is nobody's business"
    assert not (service_folder / "inputs" / generation).exists()


@pytest.mark.parametrize("seconds", [0.05, 601.0])
def test_audio_outside_the_models_limits_fails_with_a_message(api, files, speech, seconds):
    status = api.finish(api.start(files=files(audio=speech(seconds))))
    assert status["state"] == "failed"
    assert "audio" in status["error"].lower()
    assert status["failure"]["category"] == "input"


@pytest.mark.parametrize(
    ("blow", "word"), [(signal.SIGSEGV, "crashed"), (signal.SIGKILL, "memory")]
)
def test_a_crash_fails_one_generation_only(api, files, renders, service_folder, caplog, blow, word):
    generation = api.start(files=files(LONG))
    [child] = wait(lambda: renders(os.getpid()))
    time.sleep(0.3)
    os.kill(child, blow)
    status = api.finish(generation)
    assert status["state"] == "failed"
    assert word in status["error"]
    assert status["failure"]["code"] == "ENGINE_CRASHED"
    assert "render crashed" in caplog.messages
    assert list((service_folder / "work").iterdir()) == []
    assert api.finish(api.start(files=files()))["state"] == "completed"


@pytest.mark.parametrize("when", ["idle", "rendering"])
def test_the_fork_server_may_die(api, files, renders, when):
    """What runs goes on, and the next is begun as the first was."""
    assert api.finish(api.start(files=files()))["state"] == "completed"
    running = [api.start(files=files(12.0))] if when == "rendering" else []
    for _ in running:
        wait(lambda: renders(os.getpid()))
    [loaded] = [pid for pid in process_tree(os.getpid()) if called(pid) == LOADING_NAME]
    os.kill(loaded, signal.SIGKILL)
    for generation in (*running, *(api.start(files=files()) for _ in range(2))):
        status = api.finish(generation)
        assert status["state"] == "completed", status


def test_the_service_answers_quickly_while_it_renders(api, files, renders):
    generation = api.start(files=files(LONG))
    wait(lambda: renders(os.getpid()))
    slowest = 0.0
    for _ in range(20):
        begun = time.monotonic()
        api.status(generation)
        slowest = max(slowest, time.monotonic() - begun)
    api.cancel(generation)
    assert slowest < 1


def test_generations_survive_kill_9(other_process, tmp_path, files, renders):
    first = other_process(tmp_path)
    api = first.caller()
    done = api.start(files=files())
    before = api.finish(done)
    assert before["state"] == "completed"
    running = api.start(files=files(12.0))
    waiting = api.start(files=files())
    unwanted = api.start(files=files())
    api.cancel(unwanted)
    progress = api.until(running, lambda s: s["progress"] > 0)["progress"]
    assert renders(first.process.pid)
    children = process_tree(first.process.pid)[1:]
    for child in children:
        assert b"test-key" not in Path(f"/proc/{child}/environ").read_bytes()
    first.process.kill()
    first.process.wait()
    wait(lambda: not any(alive(child) for child in children), seconds=2)

    (tmp_path / "inputs" / "lip_never_accepted").mkdir()
    (tmp_path / "inputs" / "lip_never_accepted" / "source").write_bytes(b"half an upload")

    second = other_process(tmp_path)
    api = second.caller()
    assert api.status(running)["progress"] >= progress
    assert api.status(done)["result"]["created_at"] == before["result"]["created_at"]
    [url] = api.status(done)["result"]["urls"]
    assert url.startswith(api.base)
    assert requests.get(url, timeout=10).content[4:8] == b"ftyp"
    for generation in [running, waiting]:
        assert api.finish(generation)["state"] == "completed"
    assert api.status(unwanted)["state"] == "cancelled"
    assert list((tmp_path / "inputs").iterdir()) == []
    assert list((tmp_path / "work").iterdir()) == []
    assert len(list((tmp_path / "results").glob("*.mp4"))) == 3


def test_generations_survive_a_stop(other_process, tmp_path, files):
    first = other_process(tmp_path)
    api = first.caller()
    running = api.start(files=files(3.0))
    api.until(running, lambda s: s["progress"] > 0)
    begun = time.monotonic()
    assert first.stop() == (0, "")
    assert time.monotonic() - begun < 10
    assert list((tmp_path / "work").iterdir()) == []
    api = other_process(tmp_path).caller()
    assert api.finish(running)["state"] == "completed"


def test_a_slow_link_delays_no_render(api, files, web):
    link, over = web.drip("/drip.jpg")
    slow = [api.start(json={"source_url": link, "audio_url": link}) for _ in range(3)]
    wait(lambda: len(web.requests) == 3)
    assert api.finish(api.start(files=files()))["state"] == "completed"
    assert {api.status(generation)["state"] for generation in slow} == {"processing"}
    for generation in slow:
        assert api.cancel(generation).json()["state"] == "cancelled"
    over.set()

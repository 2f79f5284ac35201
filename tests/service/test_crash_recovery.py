"""What was accepted ends once, however often the service is killed or stopped on the way."""

import random
import signal
import threading
import time

import pytest
import requests

from tests.service.server_process import ServerProcess, decode, rows, strays
from tests.waiting import wait

UP_SECONDS = 2.0
"""About what a start takes: blows fall before it is over, too."""
SEED = 20


@pytest.fixture
def serve(tmp_path):
    """Start lives of a service on one folder; none outlives the test."""
    lives = []

    def start(**environment) -> ServerProcess:
        lives.append(ServerProcess(tmp_path, **environment))
        return lives[-1]

    yield start
    for life in lives:
        if life.process.poll() is None:
            life.kill()


def _check_ended(folder, api, accepted: list[str]) -> None:
    """Every generation is completed, its video decodes, and nothing else lies about."""
    done = [api.finish(generation) for generation in accepted]
    assert {status["state"] for status in done} == {"completed"}, done
    # A start whose answer was cut off may have been accepted: it ends like any other.
    wait(lambda: set(rows(folder).values()) == {"SUCCESS"})
    assert set(accepted) <= set(rows(folder))
    assert len({status["result"]["urls"][0] for status in done}) == len(accepted)
    for status in done:
        name = status["result"]["urls"][0].rpartition("/")[2]
        video = requests.get(status["result"]["urls"][0], timeout=30).content
        assert video == (folder / "results" / name).read_bytes()
        assert decode(folder / "results" / name) == status["result"]["frames"]
    assert strays(folder, len(rows(folder))) == []


@pytest.mark.parametrize(
    ("blows", "generations"),
    [pytest.param(4, 2, id="short"), pytest.param(25, 10, id="full", marks=pytest.mark.soak)],
)
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_every_accepted_generation_ends_once(serve, tmp_path, files, blow, blows, generations):
    moments = random.Random(SEED)
    accepted: list[str] = []
    results: dict[str, dict] = {}
    for number in range(1, blows + 1):
        life = serve()
        if blow == signal.SIGTERM:
            assert life.caller()  # before that a SIGTERM is an end like any other
        moment = moments.uniform(0.0, UP_SECONDS if blow == signal.SIGTERM else 2 * UP_SECONDS)
        timer = threading.Timer(moment, life.process.send_signal, [blow])
        begun = time.monotonic()
        timer.start()
        if api := life.caller():
            try:
                while len(accepted) < generations * number / blows:
                    accepted.append(api.start(files=files()))
                while True:
                    for generation in accepted:
                        status = api.status(generation)
                        assert status["state"] in ("processing", "completed"), status
                        if generation in results:
                            assert (
                                status["result"]["created_at"] == results[generation]["created_at"]
                            )
                        elif status["state"] == "completed":
                            results[generation] = status["result"]
                    time.sleep(0.2)
            except requests.RequestException:
                pass
        timer.join()
        code = life.process.wait(timeout=30)
        assert code == (-signal.SIGKILL if blow == signal.SIGKILL else 0), life.lines
        assert blow == signal.SIGKILL or time.monotonic() - begun < moment + 10
    api = serve().caller()
    assert api
    while len(accepted) < generations:
        accepted.append(api.start(files=files()))
    _check_ended(tmp_path, api, accepted)


def test_a_stop_finishes_what_it_can_and_leaves_the_rest(serve, tmp_path, files):
    life = serve()
    api = life.caller()
    first = api.start(files=files(1.0))
    api.until(first, lambda status: rows(tmp_path)[first] == "PENDING")
    second = api.start(files=files())
    assert life.stop() < 10
    found = rows(tmp_path)
    assert found[first] == "SUCCESS"
    assert found[second] in ("ENQUEUED", "PENDING")
    assert not list((tmp_path / "work").rglob("*.mp4"))
    _check_ended(tmp_path, serve().caller(), [first, second])


def test_a_stop_takes_less_time_than_process_managers_grant(serve, tmp_path, files):
    life = serve(KOLBO_LOG="json")
    api = life.caller()
    long = api.start(files=files(200.0))
    api.until(long, lambda status: status["progress"] > 0)
    assert life.stop() < 10
    assert not [line for line in life.lines if "crashed" in line]
    assert rows(tmp_path)[long] in ("ENQUEUED", "PENDING")
    life = serve()
    api = life.caller()
    assert api.status(long)["state"] == "processing"
    assert api.cancel(long).json()["state"] == "cancelled"

"""A clock that jumps deletes nothing before its time, and keeps nothing for ever."""

from pathlib import Path

import pytest
import requests

from tests.service.conftest import _SERVE, files, other_process, portrait, refused, speech
from tests.service.test_retention import _QUICK, DAY, age, made
from tests.waiting import wait

__all__ = ["files", "other_process", "portrait", "speech"]

# The wall clock of the whole process is a week ahead while there is a file of that name.
_JUMPS = """
import os, time
real = time.time
time.time = lambda: real() + (7 * 86400 if os.path.exists(os.environ["JUMPED"]) else 0)
"""


@pytest.fixture
def jumping(other_process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start a service that sweeps all the time, and a function that sets its clock a week ahead."""

    def start(hours: str):
        monkeypatch.setenv("JUMPED", str(tmp_path / "jumped"))
        monkeypatch.setenv("KOLBO_RETENTION_HOURS", hours)
        return other_process(tmp_path, _JUMPS + _QUICK + _SERVE).caller()

    return start


def stored(folder: Path, url: str) -> Path:
    """Where a result lies. To fetch it would keep it."""
    return folder / "results" / url.rpartition("/")[2]


def test_a_clock_jump_of_a_week_deletes_no_young_result(jumping, tmp_path: Path, files):
    api = jumping("24")
    (young, young_url), (old, old_url) = made(api, files), made(api, files)
    (tmp_path / "jumped").touch()
    # This one has its day behind it by any clock, so its going shows that the sweeps go on.
    age(tmp_path, old, old_url, DAY + 60)
    wait(lambda: api.get(f"/v1/generate/{old}/status").status_code == 404)
    wait(lambda: not stored(tmp_path, old_url).exists())
    assert api.status(young)["state"] == "completed"
    assert requests.get(young_url, timeout=10).status_code == 200
    # So does the work go on, and the clock that is set back again.
    after, _ = made(api, files)
    (tmp_path / "jumped").unlink()
    late, late_url = made(api, files)
    age(tmp_path, late, late_url, DAY + 60)
    wait(lambda: not stored(tmp_path, late_url).exists())
    assert {api.status(one)["state"] for one in (young, after)} == {"completed"}


def test_a_result_from_the_future_is_deleted_after_retention(jumping, tmp_path: Path, files):
    api = jumping("0.001")
    generation, url = made(api, files)
    age(tmp_path, generation, url, -7 * DAY)
    wait(lambda: not stored(tmp_path, url).exists())
    wait(lambda: api.get(f"/v1/generate/{generation}/status").status_code == 404)


def test_rate_limits_do_not_follow_the_wall_clock(jumping, tmp_path: Path):
    api = jumping("24")
    assert {api.get("/v1/models").status_code for _ in range(300)} == {200}
    (tmp_path / "jumped").touch()
    refused(api.get("/v1/models"), 429, "RATE_LIMITED")

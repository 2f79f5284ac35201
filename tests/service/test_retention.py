"""Files go when their time is over or room is short, and never under those who use them."""

import logging
import os
import secrets
import sqlite3
import time

import fsspec
import pytest
import requests

from tests.service.conftest import _SERVE as SERVE
from tests.service.conftest import figures
from tests.waiting import wait

DAY = 86_400
_QUICK = """
import os
from kolbo_demo.service import retention
retention.SWEEP_INTERVAL_SECONDS = 0.2
retention.MAX_LISTING_SHARE = 1
retention.FETCH_GRACE_SECONDS = float(os.environ.get("FETCH_SECONDS", 2))
"""


def age(folder, generation: str, url: str, seconds: float) -> None:
    """Have a generation ended so long ago."""
    then = time.time() - seconds
    for end in (".mp4", ".jpg"):
        path = folder / "results" / (url.rpartition("/")[2].removesuffix(".mp4") + end)
        os.utime(path, (then, then))
    database = sqlite3.connect(folder / "jobs.sqlite", timeout=10)
    with database:
        database.execute(
            "UPDATE workflow_status SET completed_at = ? WHERE workflow_uuid = ?",
            (int(then * 1000), generation),
        )
    database.close()


@pytest.fixture
def sweeping(other_process, tmp_path, monkeypatch):
    """Start a service that sweeps all the time, with some variables."""

    def start(**environment: str):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return other_process(tmp_path, _QUICK + SERVE).caller()

    return start


def made(api, files, **changed) -> tuple[str, str]:
    generation = api.start(files=files(**changed))
    [url] = api.finish(generation)["result"]["urls"]
    return generation, url


def test_inputs_are_deleted_with_the_job_and_results_after_retention(
    sweeping, tmp_path, files, refused
):
    api = sweeping(KOLBO_RETENTION_HOURS="24")
    (old, old_url), (young, young_url) = made(api, files), made(api, files)
    assert not list((tmp_path / "inputs").iterdir())
    age(tmp_path, old, old_url, DAY + 60)
    age(tmp_path, young, young_url, DAY - 60)
    wait(lambda: api.get(f"/v1/generate/{old}/status").status_code == 404)
    said = refused(requests.get(old_url, timeout=10), 404, "RESULT_NOT_FOUND")
    assert "24 hours" in said
    assert api.status(young)["state"] == "completed"
    assert requests.get(young_url, timeout=10).content[4:8] == b"ftyp"
    # Nothing of the old one is left: its prompt and links went with its row.
    assert len(list((tmp_path / "results").iterdir())) == 2
    database = sqlite3.connect(tmp_path / "jobs.sqlite")
    assert database.execute("SELECT count(*) FROM workflow_status").fetchone() == (1,)
    database.close()


def test_a_running_generation_keeps_its_files_whatever_their_age(sweeping, tmp_path, files):
    api = sweeping(KOLBO_RETENTION_HOURS="24")
    generation = api.start(files=files(20.0))
    [folder] = wait(lambda: list((tmp_path / "inputs").iterdir()))
    for file in folder.iterdir():
        os.utime(file, (time.time() - 3 * DAY, time.time() - 3 * DAY))
    time.sleep(1)
    assert {file.name for file in folder.iterdir()} == {"source", "audio"}
    assert api.finish(generation)["state"] == "completed"


def test_a_result_is_kept_while_it_is_sent_and_shortly_after(sweeping, tmp_path, files, speech):
    api = sweeping(KOLBO_RETENTION_HOURS="24")
    # Larger than what sockets take at once, so that the download hangs while nobody reads.
    generation, url = made(api, files)
    path = tmp_path / "results" / url.rpartition("/")[2]
    with path.open("ab") as file:
        file.write(b"\0" * 50_000_000)
    size = path.stat().st_size
    with requests.get(url, timeout=30, stream=True) as download:
        chunks = download.iter_content(1000)
        first = next(chunks)
        age(tmp_path, generation, url, 2 * DAY)
        time.sleep(1)
        assert path.exists()
        assert len(first) + sum(len(chunk) for chunk in chunks) == size
    resumed = requests.get(url, headers={"Range": "bytes=10-"}, timeout=30)
    assert len(resumed.content) == size - 10
    wait(lambda: not path.exists())


def test_disk_usage_is_limited(sweeping, tmp_path, files, refused, portrait):
    api = sweeping(KOLBO_MAX_DISK_GB="0.03", FETCH_SECONDS="600")
    ids = [made(api, files) for _ in range(2)]
    # Each of these videos counts for 10 MB.
    for _, url in ids:
        with (tmp_path / "results" / url.rpartition("/")[2]).open("ab") as file:
            file.write(b"\0" * 10_000_000)
    wait(lambda: figures(api)["kolbo_disk_bytes"] > 20_000_000)
    crowd = files(image=portrait + b"\0" * 15_000_000)
    said = refused(api.lipsync(files=crowd), 503, "STORAGE_FULL")
    assert "no room" in said
    assert api.lipsync(files=crowd).headers["Retry-After"]
    # Results that nobody may have fetched stay; once that time is over the oldest goes first.
    paths = [tmp_path / "results" / url.rpartition("/")[2] for _, url in ids]
    assert all(path.exists() for path in paths)
    for number, (generation, url) in enumerate(ids):
        age(tmp_path, generation, url, 7200 - number)
    third = wait(lambda: api.lipsync(files=crowd).json().get("generation_id"))
    assert api.finish(third)["state"] == "completed"
    assert not paths[0].exists()
    assert paths[1].exists()
    total = sum(f.stat().st_size for f in (tmp_path / "results").iterdir())
    assert total < 30_000_000


def test_an_upload_is_counted_once(sweeping, tmp_path, files, portrait):
    api = sweeping(KOLBO_MAX_DISK_GB="0.03", FETCH_SECONDS="600")
    generation, url = made(api, files)
    result = tmp_path / "results" / url.rpartition("/")[2]
    with result.open("ab") as file:
        file.write(b"\0" * 8_000_000)
    age(tmp_path, generation, url, 7200)
    # 8 MB lie there and 18 are on their way: all fits, at every moment of the upload.
    form = requests.Request(
        "POST", api.base + "/v1/generate/lipsync", files=files(image=portrait + b"\0" * 18_000_000)
    ).prepare()
    body = form.body
    assert isinstance(body, bytes)

    def slowly():
        for start in range(0, len(body), 3_000_000):
            yield body[start : start + 3_000_000]
            time.sleep(0.3)

    headers = {"Content-Type": form.headers["Content-Type"], "Content-Length": str(len(body))}
    upload = requests.Request("POST", form.url, headers=headers | {"X-API-Key": api.key}).prepare()
    upload.body = slowly()  # type: ignore[assignment] - it sends what can be iterated
    reply = api.session.send(upload, timeout=60)
    assert reply.status_code == 200, reply.text
    assert result.exists()


def test_an_object_store_is_not_listed_at_each_start(
    other_process, tmp_path, files, refused, portrait, s3_endpoint, monkeypatch, caplog
):
    bucket = f"room-{secrets.token_hex(4)}"
    fsspec.filesystem("s3", endpoint_url=s3_endpoint).mkdir(bucket)
    monkeypatch.setenv("KOLBO_STORAGE_URL", f"s3://{bucket}/lipsync")
    monkeypatch.setenv("KOLBO_MAX_DISK_GB", "0.03")
    caplog.set_level(logging.INFO, "werkzeug")

    def listings() -> list[str]:
        requests_logged = [
            record.getMessage() for record in caplog.records if record.name == "werkzeug"
        ]
        return [line for line in requests_logged if "prefix=lipsync/results/&delimiter=&" in line]

    api = other_process(tmp_path).caller()
    for _ in range(3):
        assert api.finish(api.start(files=files()))["state"] == "completed"
    # What this service has made and what runs counts all the same.
    crowd = files(20.0, image=portrait + b"\0" * 16_000_000)
    long = api.start(files=crowd)
    refused(api.lipsync(files=crowd), 503, "STORAGE_FULL")
    api.cancel(long)
    assert wait(lambda: api.lipsync(files=crowd).json().get("generation_id"))
    assert len(listings()) == 1

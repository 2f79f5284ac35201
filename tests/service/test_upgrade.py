"""The data folder of an earlier release, with jobs waiting, which this one continues."""

import json
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from kolbo_demo.engine.video_reader import Clip
from tests.browser.site import KEY, Site, serve
from tests.events import Browser
from tests.marked import is_marked

FOLDER = Path(__file__).with_name("data") / "released.tar.gz"
FINISH_SECONDS = 240


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Page and service on a copy of the folder."""
    home = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(FOLDER) as archive:
        archive.extractall(home / "data")
    for path in (home / "data").rglob("*"):
        path.touch()  # old files expire
    with serve(home, KOLBO_RETENTION_HOURS="1e5") as found:
        yield found


@pytest.fixture(scope="module")
def jobs(site: Site) -> dict[str, Any]:
    """Ids of generations by what they are, the ticket of one on the page, its prompt."""
    return json.loads((site.home / "data" / "expected.json").read_text())


def finish(site: Site, generation: str) -> dict[str, Any]:
    deadline = time.monotonic() + FINISH_SECONDS
    while (status := site.status(generation))["state"] == "processing":
        assert time.monotonic() < deadline, status
        time.sleep(0.25)
    return status


def download(status: dict[str, Any], folder: Path) -> list[np.ndarray]:
    """The frames of a result."""
    path = folder / "result.mp4"
    path.write_bytes(requests.get(status["result"]["urls"][0], timeout=30).content)
    with Clip(path) as clip:
        return list(clip.frames())


def test_waiting_generations_complete(site: Site, jobs: dict[str, Any], tmp_path: Path) -> None:
    for name in ("marked", "plain"):
        status = finish(site, jobs[name])
        assert status["state"] == "completed", status
        assert status["result"]["visible_mark"] == (name == "marked")
        frames = download(status, tmp_path)
        assert len(frames) == status["result"]["frames"]
        assert is_marked(Image.fromarray(frames[0])) == (name == "marked")


def test_prompt_and_face_point_of_a_waiting_generation_apply(
    site: Site, jobs: dict[str, Any], tmp_path: Path
) -> None:
    result = finish(site, jobs["prompted"])["result"]
    assert result["prompt_used"] == jobs["prompt"]
    frames = np.stack(download({"result": result}, tmp_path)).astype(np.int16)
    motion = np.abs(np.diff(frames, axis=0)).mean((0, 1, 3))
    left, right = np.split(motion, 2)
    assert right.mean() > 3 * left.mean(), "the right face speaks"


def test_ended_generations_are_found(site: Site, jobs: dict[str, Any], tmp_path: Path) -> None:
    completed, failed = (site.status(jobs[name]) for name in ("completed", "failed"))
    assert completed["state"] == "completed"
    assert len(download(completed, tmp_path)) == completed["result"]["frames"]
    assert failed["state"] == "failed"
    assert failed["failure"]["code"] == "INVALID_MEDIA"
    assert "face" in failed["error"]


def test_the_page_continues_its_generation(site: Site, jobs: dict[str, Any]) -> None:
    browser, ticket = Browser(site.url), jobs["ticket"]
    entry = {"ticket": ticket, "id": jobs["prompted"], "backend": "local"}
    last = json.dumps(list(browser.load([entry])))
    assert jobs["prompted"] in last
    assert "Your video is ready" in last
    [url] = site.status(jobs["prompted"])["result"]["urls"]
    path = site.home / "data" / "page" / ticket / "result.mp4"
    shown = requests.get(f"{site.url}/gradio_api/file={path}", timeout=30)
    assert shown.content == requests.get(url, timeout=30).content


def test_rows_have_the_keys_of_the_earlier_release(site: Site, jobs: dict[str, Any]) -> None:
    """Its processes may share the queue for a while."""
    folder = site.home / "data"
    [ticket] = [path.parent for path in (folder / "page").glob("*/record.json")]
    inputs = {"image": ticket / "source.jpg", "audio": ticket / "voice.mp3"}
    reply = requests.post(
        f"{site.url}/api/v1/generate/lipsync",
        headers={"X-API-Key": KEY},
        files={name: path.read_bytes() for name, path in inputs.items()},
        timeout=30,
    )
    new = reply.json()["generation_id"]
    finish(site, new)
    earlier, now = (_stored(folder, generation) for generation in (jobs["completed"], new))
    assert earlier
    assert earlier <= now


def _stored(folder: Path, generation: str) -> set[str]:
    """Keys of a generation's stored input, steps and outcome, as paths."""
    database = sqlite3.connect(folder / "jobs.sqlite")
    query = (
        "SELECT fullkey FROM (SELECT inputs AS document FROM workflow_input WHERE {0} UNION ALL "
        "SELECT output FROM workflow_output WHERE {0} UNION ALL "
        "SELECT output FROM operation_outputs WHERE {0}), json_tree(document)"
    ).format(f"workflow_uuid = '{generation}'")
    try:
        return {key for (key,) in database.execute(query)}
    finally:
        database.close()

"""Damaged files sent to a running service: each generation ends with a video or a sentence."""

from pathlib import Path

import pytest
import requests

from tests import hostile
from tests.service.conftest import Caller
from tests.service.server_process import decode, strays
from tests.service.test_metrics_and_logs import figures, health
from tests.waiting import wait

IN_FLIGHT = 6
SLOW_SECONDS = 60
"""Within this a render of such small files ends, also on a busy machine."""

_SERVE = """
import json, sys
from kolbo_demo.service.app import serving
from kolbo_demo.service.rate_limit import Limits
from kolbo_demo.settings import Settings
with serving(Settings(), limits=Limits(10**6, 10**6)) as service:
    print(json.dumps([service.base_url, service.api_key.get_secret_value()]), flush=True)
    sys.stdin.read()
"""


def _ended(api: Caller, generation: str) -> str:
    """The outcome, once it is there, and what it owes to whoever asked for it."""
    status = api.finish(generation)
    if status["state"] == "completed":
        assert requests.get(status["result"]["urls"][0], timeout=30).content
        return "completed"
    assert status["state"] == "failed", status
    sentence = status["error"]
    assert sentence.endswith(".")
    assert len(sentence) < 300, sentence
    assert "\n" not in sentence
    assert not hostile.INSIDE.search(sentence), sentence
    return status["failure"]["code"]


@pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(30, 0, id="short"),
        *(
            pytest.param(100, seed, id=f"full{seed}", marks=pytest.mark.soak)
            for seed in range(1, 6)
        ),
    ],
)
def test_a_damaged_file_fails_its_generation_only(
    count, seed, other_process, renders, tmp_path, files
):
    data, media = tmp_path / "data", tmp_path / "media"
    media.mkdir()
    other = other_process(data, _SERVE)
    api = other.caller()
    outcomes: dict[str, str] = {}
    flying: list[tuple[str, str]] = []

    def land() -> None:
        name, generation = flying.pop(0)
        outcomes[name] = _ended(api, generation)

    for path in hostile.damaged(media, count, seed):
        part = "audio" if path.suffix in hostile.SOUNDS else "image"
        content = path.read_bytes()
        path.unlink()
        reply = api.lipsync(files=files(0.3, **{part: content or None}))
        if reply.status_code == 200:
            flying.append((path.name, reply.json()["generation_id"]))
        else:
            assert reply.status_code == 400, (path.name, reply.text)
            assert not hostile.INSIDE.search(reply.text)
            outcomes[path.name] = reply.json()["code"]
        while len(flying) >= IN_FLIGHT:
            land()
    while flying:
        land()
    assert len(outcomes) == count
    kinds = {kind: list(outcomes.values()).count(kind) for kind in outcomes.values()}
    print(kinds)  # shown with -s; docs/figures.md has the counts for 500 files
    assert kinds["completed"], "some damage is harmless"
    assert kinds["INVALID_MEDIA"] > kinds["completed"]
    crashed = [
        name for name, code in outcomes.items() if code in ("ENGINE_CRASHED", "GENERATION_ERROR")
    ]
    assert not crashed, kinds

    metrics = figures(api)
    rendered = metrics['kolbo_stage_seconds_count{stage="render"}']
    assert (
        metrics[f'kolbo_stage_seconds_bucket{{le="{SLOW_SECONDS}.0",stage="render"}}'] == rendered
    )
    assert rendered == sum(metrics[f'kolbo_generations_ended_total{{state="{state}"}}']
                           for state in ("completed", "failed"))  # fmt: skip
    assert other.process.poll() is None
    idle = {"ready": True, "queue": 0, "running": 0}
    wait(lambda: health(api).items() >= idle.items())
    assert renders(other.process.pid) == []
    assert strays(data, kinds["completed"]) == []
    for video in (data / "results").glob("*.mp4"):
        assert decode(Path(video))
    assert other.stop() == (0, "")

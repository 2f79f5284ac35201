"""What operators see, and that it tells nothing of visitors; jobs that outlive an upgrade."""

import json
import re
import subprocess
import sys

import requests

from tests.service.conftest import _SERVE as SERVE
from tests.service.conftest import ROOT, figures, root
from tests.waiting import wait

SECRET_PROMPT = "subtle, qzprompt"
SECRET_NAME = "qzfilename.png"
ADDRESS = "127.0.0.1"

_JSON_LOG = """
import logging
from kolbo_demo import logs
logs.configure("json")
{more}
"""


def health(api) -> dict:
    return requests.get(f"{root(api)}/healthz", timeout=10).json()


def test_healthz_counts_queued_and_running_generations(api, files):
    crowd = [api.start(files=files(30.0)) for _ in range(health(api)["workers"] + 2)]
    try:
        wait(lambda: health(api).items() >= {"ready": True, "queue": 2}.items())
        found = health(api)
        assert found["running"] == found["workers"] >= 1
        metrics = figures(api)
        assert (metrics["kolbo_ready"], metrics["kolbo_queue"]) == (1, 2)
        assert metrics["kolbo_running"] == metrics["kolbo_workers"] == found["workers"]
    finally:
        for generation in crowd:
            api.cancel(generation)


def test_metrics_count_states_seconds_and_bytes(api, files, refused):
    before = figures(api)
    sent = files()
    status = api.finish(api.start(files=sent))
    video = requests.get(status["result"]["urls"][0], timeout=10).content
    assert api.finish(api.start(files=files(image=files()["image"][1][:2000])))["state"] == "failed"
    refused(api.lipsync(json={}), 400, "MISSING_FIELDS")
    api.cancel(api.start(files=files(30.0)))
    grown = {name: value - before.get(name, 0) for name, value in figures(api).items()}
    for state in ("completed", "failed", "cancelled"):
        assert grown[f'kolbo_generations_ended_total{{state="{state}"}}'] == 1, state
    assert grown["kolbo_generations_accepted_total"] == 3
    assert grown['kolbo_requests_refused_total{code="MISSING_FIELDS"}'] == 1
    assert grown['kolbo_stage_seconds_count{stage="sign"}'] == 1
    assert grown['kolbo_stage_seconds_count{stage="store"}'] == 1
    assert 0 < grown['kolbo_stage_seconds_sum{stage="render"}'] < 60
    assert grown['kolbo_bytes_total{way="sent"}'] == len(video)
    assert grown['kolbo_bytes_total{way="made"}'] == len(video)
    size = sum(len(data) for _, data in sent.values())
    assert size < grown['kolbo_bytes_total{way="received"}']


def test_every_metric_is_documented(api):
    document = (ROOT / "docs" / "operations.md").read_text("utf-8")
    names = {name.partition("{")[0] for name in figures(api) if name.startswith("kolbo_")}
    histogram = re.compile("_(bucket|sum|count)$")
    assert not [name for name in names if f"`{histogram.sub('', name)}" not in document]
    stages = set(re.findall(r'kolbo_stage_seconds_count\{stage="(\w+)"', str(figures(api))))
    assert stages
    assert not [stage for stage in stages if f"`{stage}`" not in document]


def test_json_logs_carry_the_generation_and_nothing_of_visitors(other_process, tmp_path, files):
    other = other_process(tmp_path, _with_log())
    api = other.caller()
    sent = files()
    sent["image"] = (SECRET_NAME, sent["image"][1])
    good = api.start(files=sent, data={"prompt": SECRET_PROMPT})
    bad = api.start(files=files(image=sent["image"][1][:2000]), data={"prompt": SECRET_PROMPT})
    linked = api.start(
        json={
            "source_url": "http://qzlink.example.invalid/a.jpg",
            "audio_url": "http://qzlink.example.invalid/a.mp3",
        }
    )
    assert [api.finish(g)["state"] for g in (good, bad, linked)] == [
        "completed",
        "failed",
        "failed",
    ]
    unwanted = api.start(files=files(30.0))
    api.cancel(unwanted)
    api.lipsync(json={}, headers={"X-API-Key": "qzwrongkey"})
    shown = requests.get(f"{root(api)}/metrics", timeout=10).text
    code, said = other.stop()
    assert code == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert all({"time", "level", "logger", "event", "generation"} <= set(line) for line in lines)
    events = {
        generation: [line["event"] for line in lines if line["generation"] == generation]
        for generation in (good, bad, linked, unwanted)
    }
    assert events[good] == ["accepted", "begun", "stage", "stage", "stage", "completed"]
    assert events[bad][-1] == "failed"
    assert events[linked][-1] == "failed"
    assert "cancelled" in events[unwanted]
    [failed] = [
        line for line in lines if line["event"] == "failed" and line["generation"] == linked
    ]
    assert failed["code"] == "LINK_UNREACHABLE"
    for secret in ("qz", "test-key", ADDRESS, SECRET_PROMPT):
        assert secret not in said, secret
        assert secret not in shown, secret


def test_internal_errors_are_logged_without_their_messages(other_process, tmp_path, files):
    other = other_process(tmp_path, _with_log(_BROKEN))
    api = other.caller()
    generation = api.start(files=files(), data={"prompt": SECRET_PROMPT})
    assert api.finish(generation)["state"] == "failed"
    assert api.get("/v1/models").status_code == 500
    said = other.stop()[1]
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line for line in lines if line["generation"] == generation and "error" in line]
    assert [line for line in lines if line.get("error") == "ValueError" and line["where"]]
    assert "qz" not in said


_BROKEN = """
from kolbo_demo.service import render_pool, routes
def broken(*_, **__):
    raise ValueError("qz quotes what a visitor sent")
render_pool.RenderPool.run = broken
routes.list_models = broken
"""


def _with_log(more: str = "") -> str:
    return _JSON_LOG.format(more=more) + SERVE


def test_a_json_log_contains_no_key():
    run = subprocess.run(
        [sys.executable, "-m", "kolbo_demo", "serve", "--port", "0"],
        env={"KOLBO_LOG": "json", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "KOLBO_LOCAL_API_KEY" in run.stderr
    assert "kolbo_live_" not in run.stdout + run.stderr


_OLDER_RELEASE = """
import sys
from dbos import DBOS
from kolbo_demo.service import render_pool
@DBOS.workflow(name="of-an-older-release")
def _gone() -> None:
    pass
def slow(*_, **__):
    sys.stdin.read()
render_pool.RenderPool.run = slow
"""


def test_a_generation_accepted_before_an_upgrade_completes_after_it(other_process, tmp_path, files):
    """The older release has other workflows in its code, from which dbos would make a version."""
    older = other_process(tmp_path, _OLDER_RELEASE + SERVE)
    api = older.caller()
    running, waiting = api.start(files=files()), api.start(files=files())
    wait(lambda: health(api)["running"] == 1)
    older.process.kill()
    older.process.wait()
    api = other_process(tmp_path).caller()
    assert api.finish(running)["state"] == "completed"
    assert api.finish(waiting)["state"] == "completed"

"""Stored generations: their records, their files and their runs."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from kolbo_demo.client import InputError
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.options import Options, Trim
from kolbo_demo.service.gate import Caller
from kolbo_demo.ui.access.backend import CLOUD, LOCAL, Access, Local
from kolbo_demo.ui.access.key_allowance import Allowance
from kolbo_demo.ui.background.runs import Runs
from kolbo_demo.ui.storage import folders
from kolbo_demo.ui.storage.generation_store import RESULT, THUMBNAIL, GenerationStore, Record
from tests.scripted import KEY, Reply, Scripted


def access(server: Scripted, key: str | None = None) -> Access:
    """Both sides are the scripted server; `key` is the environment's for the cloud."""
    own = SecretStr(key) if key else None
    return Access(Local(server.base_url, SecretStr(KEY)), server.base_url, own, private=True)


@pytest.fixture
def runs(server: Scripted, tmp_path: Path) -> Runs:
    return Runs(access(server), GenerationStore(tmp_path / "page"))


def request(portrait: Path, speech: Path) -> GenerationRequest:
    return GenerationRequest(portrait, speech, options=Options(prompt="smiling", face=(0.5, 0.25)))


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generations known by their id are polled without waiting for Kolbo's 8 s."""
    monkeypatch.setattr("kolbo_demo.client.generation.DEFAULT_POLL_SECONDS", 0.2)


def ended(runs: Runs, ticket: str) -> Record:
    """The record once its generation has ended, as a page that looks again and again sees it."""
    deadline = time.monotonic() + 60
    while (found := runs.find(ticket)) is None or found[0].end is None:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found[0]


def test_delete_at_the_moment_a_generation_ends(
    runs: Runs, server: Scripted, portrait: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.starts()
    server.on_status(server.completed())
    save, deletions = runs.store.save, []

    def save_and_delete(record: Record) -> None:
        save(record)
        if record.end is not None:
            deletion = threading.Thread(target=runs.delete, args=(record.ticket,))
            deletion.start()
            deletions.append(deletion)
            deletion.join(0.2)

    monkeypatch.setattr(runs.store, "save", save_and_delete)
    ticket = runs.start(runs._access.client(LOCAL, None), request(portrait, speech), LOCAL).ticket
    deadline = time.monotonic() + 60
    while not deletions:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    deletions[0].join()
    assert runs.find(ticket) is None


def test_a_generation_to_its_end(
    runs: Runs, server: Scripted, portrait: Path, speech: Path
) -> None:
    server.starts()
    server.on_status(
        {"state": "processing", "progress": 41, "queue_position": 2}, server.completed()
    )
    ticket = runs.start(runs._access.client(LOCAL, None), request(portrait, speech), LOCAL).ticket
    record = ended(runs, ticket)
    assert (record.end, record.generation_id, record.credits) == ("done", "lip_1", 20)
    assert runs.store.file(ticket, RESULT)
    deadline = time.monotonic() + 30
    while runs.store.file(ticket, THUMBNAIL) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    runs.delete(ticket)
    assert runs.find(ticket) is None
    assert not runs.store.folder(ticket).exists()


def test_a_look_while_the_run_ends_loses_nothing(
    server: Scripted, tmp_path: Path, portrait: Path, speech: Path
) -> None:
    class Slow(GenerationStore):
        """Answers with what stood there before the run ended, and only after it has."""

        ended: Callable[[], bool] | None = None

        def get(self, ticket: str) -> Record | None:
            record = super().get(ticket)
            while self.ended and not self.ended():
                time.sleep(0.01)
            return record

    store = Slow(tmp_path / "page")
    runs = Runs(access(server), store)
    refused = {"success": False, "error": "Enough for this test", "code": "MISSING_FIELDS"}
    server.on("POST /v1/generate/lipsync", Reply(400, refused, hang=0.3))
    client = runs._access.client(LOCAL, None)
    ticket = runs.start(client, request(portrait, speech), LOCAL).ticket
    store.ended = lambda: ticket not in runs._running
    runs.find(ticket)
    store.ended = None
    record = store.get(ticket)
    assert record is not None
    assert "Enough for this test" in (record.error or "")


def test_an_interrupted_generation_is_taken_up_again(server: Scripted, tmp_path: Path) -> None:
    server.on_status({"state": "processing", "progress": 40}, server.completed())
    ticket = GenerationStore(tmp_path / "page").opened("lip_1", LOCAL).ticket
    assert ended(Runs(access(server), GenerationStore(tmp_path / "page")), ticket).end == "done"


def test_the_cloud_is_polled_again_with_a_key_only(server: Scripted, runs: Runs) -> None:
    record = runs.store.opened("lip_1", CLOUD)
    assert runs.find(record.ticket) == (record, None)
    assert server.requests == []
    server.on_status({"state": "failed", "error": "No face."})
    assert runs.follow(record, KEY)
    assert "No face." in (ended(runs, record.ticket).error or "")
    assert KEY not in (runs.store.folder(record.ticket) / "record.json").read_text()


def test_a_stop_before_it_was_accepted_is_an_error(runs: Runs, portrait: Path) -> None:
    record = runs.store.new(request(portrait, portrait), LOCAL)
    assert "Start it again" in (ended(runs, record.ticket).error or "")


def test_cancel_reaches_the_api(runs: Runs, server: Scripted, portrait: Path, speech: Path) -> None:
    server.starts(hint=30)
    server.on_status({"state": "processing", "progress": 1})
    server.on("POST /v1/generate/lip_1/cancel", Reply(json={"state": "cancelled"}))
    record = runs.start(runs._access.client(LOCAL, None), request(portrait, speech), LOCAL)
    deadline = time.monotonic() + 30
    while not server.count("GET /v1/generate/lip_1/status"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    runs.cancel(record.ticket)
    assert ended(runs, record.ticket).end == "cancelled"
    assert server.count("POST /v1/generate/lip_1/cancel") == 1


def test_what_is_old_or_too_much_goes(
    tmp_path: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GenerationStore(tmp_path / "page")
    monkeypatch.setattr(folders, "SWEEP_SECONDS", 0)
    first = store.new(request(portrait, portrait), LOCAL)
    first.end = "done"
    store.save(first)
    second = store.new(request(portrait, portrait), LOCAL)
    assert store.get(first.ticket)
    third = store.new(request(portrait, portrait), LOCAL)
    with monkeypatch.context() as patch:
        patch.setattr(store.quota, "total", 1)
        store.quota.fit()
    assert store.get(first.ticket) is None
    assert store.get(second.ticket)  # still running
    monkeypatch.setattr(folders, "KEEP_SECONDS", -1.0)
    store.new(request(portrait, portrait), LOCAL)
    assert store.get(third.ticket) is None


def test_a_shared_key_opens_nobodys_generations(server: Scripted, tmp_path: Path) -> None:
    own = SecretStr(KEY)
    nobody = Local(server.base_url, SecretStr(KEY), lambda: "no engine")
    shared = Access(nobody, server.base_url, own, private=False, shared=Allowance(60))
    runs = Runs(shared, GenerationStore(tmp_path / "page"))
    server.on_status({"state": "processing", "progress": 1})
    with pytest.raises(InputError):
        runs.open("lip_1", "")
    assert server.requests == []
    assert runs.open("lip_1", KEY).generation_id == "lip_1"


def test_what_a_visitor_has_under_way_is_bounded(
    runs: Runs, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is polled in a thread of its own, so an id may not be opened without end."""
    monkeypatch.setattr("kolbo_demo.ui.background.runs.MOST_RUNS", 3)
    server.on_status({"state": "processing", "progress": 5})
    caller, other = Caller("203.0.113.7"), Caller("198.51.100.20")
    opened = [runs.open("lip_1", None, caller) for _ in range(3)]
    with pytest.raises(InputError, match="3 generations"):
        runs.open("lip_1", None, caller)
    opened.append(runs.open("lip_1", None, other))
    server.on_status({"state": "failed", "error": "Enough for this test."})
    deadline = time.monotonic() + 30
    while not all((found := runs.store.get(record.ticket)) and found.end for record in opened):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runs.open("lip_1", None, caller)


def test_a_record_of_an_older_release_has_its_options() -> None:
    """They lay beside the rest."""
    record = Record.model_validate_json(
        '{"ticket": "t", "backend": "local", "created": 1.0, "words": "Hello", "prompt": "calm",'
        ' "model": null, "face": [0.5, 0.25], "face_at": 1.5, "speed": 1.25, "mark": true,'
        ' "edit": {"clip": [1.0, 2.0], "voice": null, "clip_seconds": 1.0, "mode": "loop"}}'
    )
    assert record.words == "Hello"
    assert record.options == Options(
        prompt="calm",
        face=(0.5, 0.25),
        face_at=1.5,
        speed=1.25,
        mark=True,
        trim=Trim(clip=(1.0, 2.0), clip_seconds=1.0, mode="loop"),
    )
    assert Record.model_validate_json(record.model_dump_json()) == record

"""The handle of a generation: poll, wait, cancel, download."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from kolbo_demo.client import (
    DownloadError,
    GenerationCancelledError,
    GenerationFailedError,
    InputError,
    KolboClient,
    NotFoundError,
    StillRunningError,
)
from tests.scripted import HTML, VIDEO, Reply, Scripted, running


def test_from_start_to_file(
    server: Scripted, client: KolboClient, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts()
    server.on_status(running(10), running(60), server.completed())
    generation = client.lipsync(portrait, speech)
    states = [(status.state, status.progress) for status in generation.events()]
    assert states == [("processing", 10), ("processing", 60), ("completed", 100)]
    path = generation.download(tmp_path / "out.mp4")
    assert path.read_bytes() == VIDEO


def test_polls_follow_the_hint_and_the_first_is_immediate(
    server: Scripted, client: KolboClient
) -> None:
    server.starts(hint=1)
    server.on_status(running(), server.completed())
    generation = client.lipsync("https://example.com/a.png", "https://example.com/a.mp3")
    generation.wait()
    start, first, second = (seen.at for seen in server.requests)
    assert first - start < 1
    assert 1 <= second - first < 6


@pytest.mark.parametrize(("hint", "used"), [(None, 8), (0, 8), (-3, 8), (0.001, 0.2), (1e9, 60)])
def test_poll_intervals_are_bounded(client: KolboClient, hint: float | None, used: float) -> None:
    assert client.generation("lip_1", hint).poll_interval == used


def test_progress_never_goes_backwards(server: Scripted, client: KolboClient) -> None:
    server.on_status(
        running(), running("30"), running(20), running("40%"), running(float("nan")),
        running([]), running(400), server.completed(progress=7),
    )  # fmt: skip
    seen = [status.progress for status in client.generation("lip_1", 0.2).events()]
    assert seen == [0, 30, 30, 40, 40, 40, 100, 100]


def test_unusual_statuses_are_parsed(server: Scripted, client: KolboClient) -> None:
    odd = {
        "success": False,
        "generationId": "lip_1",
        "state": "failed",
        "error": {"message": "The face is hidden."},
        "failure": "?",
    }
    server.on_status(
        {"success": True, "state": "pending"},
        running(1, state="upscaling", queue=3),
        {"success": True, "progress": 5},
        odd,
    )
    seen = list(client.generation("lip_1", 0.2).events())
    assert [status.state for status in seen] == ["pending", "upscaling", "failed"]
    assert (seen[-1].generation_id, seen[-1].error) == ("lip_1", "The face is hidden.")


def test_a_timeout_names_the_id(server: Scripted, client: KolboClient) -> None:
    server.on_status(running(5))
    started = time.monotonic()
    with pytest.raises(StillRunningError, match=r"lip_1 .* may still be running") as caught:
        client.generation("lip_1", 0.2).wait(timeout=0.7)
    assert 0.6 < time.monotonic() - started < 5
    assert caught.value.generation_id == "lip_1"
    assert caught.value.status
    assert caught.value.status.progress == 5


@pytest.mark.parametrize("fault", [Reply(drop=True), Reply(503, {}), HTML, Reply(hang=20)])
def test_a_timeout_during_failures_names_the_last_one(
    server: Scripted, client: KolboClient, fault: Reply
) -> None:
    server.on_status(running(5), fault)
    started = time.monotonic()
    with pytest.raises(StillRunningError, match="The last attempt to ask met this"):
        client.generation("lip_1", 0.2).wait(timeout=0.8)
    assert 0.7 < time.monotonic() - started < 8


def test_a_timeout_of_zero_still_polls_once(server: Scripted, client: KolboClient) -> None:
    server.on_status(server.completed())
    assert client.generation("lip_1").wait(timeout=0).state == "completed"


def test_an_unknown_id_ends_polling(server: Scripted, client: KolboClient) -> None:
    with pytest.raises(NotFoundError):
        client.generation("lip_2").wait()
    assert len(server.requests) == 1


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a?b", "a b", "é", "x" * 201])
def test_a_malformed_id_is_refused(client: KolboClient, bad: str) -> None:
    with pytest.raises(InputError, match="generation id"):
        client.generation(bad)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"error": "No face found. Use another."}, "The generation failed: No face found"),
        ({"failure": {"message": "Flagged", "retryable": False}}, "failed: Flagged."),
        ({}, "no reason was given"),
    ],
)
def test_failure(
    server: Scripted, client: KolboClient, status: dict[str, Any], message: str, tmp_path: Path
) -> None:
    server.on_status({"success": True, "state": "failed", **status})
    generation = client.generation("lip_1")
    with pytest.raises(GenerationFailedError, match=message) as caught:
        generation.wait()
    assert caught.value.generation_id == "lip_1"
    assert caught.value.status
    with pytest.raises(GenerationFailedError, match=message):
        generation.download(tmp_path / "out.mp4")


@pytest.mark.parametrize("result", [None, {}, {"urls": []}, {"urls": None}, {"urls": [""]}, "x"])
def test_completed_without_a_video_is_a_failure(
    server: Scripted, client: KolboClient, result: object, tmp_path: Path
) -> None:
    server.on_status({"success": True, "state": "completed", "progress": 100, "result": result})
    with pytest.raises(GenerationFailedError, match="without a video"):
        client.generation("lip_1").wait()
    with pytest.raises(DownloadError):
        client.generation("lip_1").download(tmp_path / "out.mp4")


@pytest.mark.parametrize("state", ["cancelled", "Canceled"])
def test_cancelled_elsewhere(server: Scripted, client: KolboClient, state: str) -> None:
    server.on_status({"success": True, "state": state})
    with pytest.raises(GenerationCancelledError):
        client.generation("lip_1").wait()


def test_cancel(server: Scripted, client: KolboClient) -> None:
    reply = {"success": True, "generation_id": "lip_1", "state": "cancelled", "credits_refunded": 9}
    server.on("POST /v1/generate/lip_1/cancel", Reply(drop=True), Reply(json=reply))
    status = client.generation("lip_1").cancel()
    assert (status.state, status.final) == ("cancelled", True)
    assert server.requests[-1].json == {}


def test_cancel_too_late(server: Scripted, client: KolboClient) -> None:
    late = {"success": False, "error": "Cannot cancel", "code": "X", "state": "completed"}
    server.on("POST /v1/generate/lip_1/cancel", Reply(409, late))
    server.on_status(server.completed())
    assert client.generation("lip_1").cancel().state == "completed"


def test_an_unusable_output_path_is_refused(
    server: Scripted, client: KolboClient, tmp_path: Path
) -> None:
    server.on_status(server.completed())
    generation = client.generation("lip_1")
    with pytest.raises(InputError, match="does not exist"):
        generation.download(tmp_path / "missing" / "o.mp4")
    with pytest.raises(InputError, match="is a folder"):
        generation.download(tmp_path)
    with pytest.raises(InputError, match="Nothing can be saved"):
        generation.download(tmp_path / ("long" * 100))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no ordinary file"):
        generation.download(tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert server.requests == []


def test_a_download_before_the_end_is_refused(
    server: Scripted, client: KolboClient, tmp_path: Path
) -> None:
    server.on_status(running(5))
    with pytest.raises(StillRunningError, match="not finished yet"):
        client.generation("lip_1").download(tmp_path / "o.mp4")

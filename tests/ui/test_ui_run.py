"""One run, against a scripted API."""

import hashlib
import time
from pathlib import Path

import av
import numpy as np
import pytest

from kolbo_demo.client import KolboClient
from kolbo_demo.credentials.reading import read
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.engine.watermark import Watermark
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.media.probe import frame_at
from kolbo_demo.options import Options
from kolbo_demo.settings import Settings
from kolbo_demo.ui.background.run import Run, Stage
from tests.scripted import VIDEO, Reply, Scripted, sparse_wav


def request(source: Path | str, voice: Path | str) -> GenerationRequest:
    return GenerationRequest(source, voice, options=Options(face=(0.5, 0.25)))


def until_end(run: Run) -> Stage:
    run.start()
    return until_over(run)


def wait_for(what: str, server: Scripted) -> None:
    deadline = time.monotonic() + 30
    while not server.count(what):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)


def test_stages_to_the_video(
    client: KolboClient, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts()
    server.on_status(
        {"state": "pending"}, {"state": "processing", "progress": 40}, server.completed()
    )
    stages: list[Stage] = []
    run = Run(client, request(portrait, speech), tmp_path, stages.append)
    last = until_end(run)
    assert last.video is not None
    assert last.video.read_bytes() == VIDEO
    assert last is stages[-1]
    assert [stage.percent for stage in stages if stage.percent][:1] == [40]
    assert server.requests[0].parts["bounding_box_target"][2] == b"[0.5, 0.25]"


def test_the_pace_tells_what_is_left() -> None:
    since = time.monotonic() - 30
    assert Stage("x", percent=12, first=(since, 10)).seconds_left is None
    assert round(Stage("x", percent=40, first=(since, 10)).seconds_left or 0) == 60


def test_a_failure_is_a_sentence(
    client: KolboClient, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts()
    server.on_status({"state": "failed", "error": "No face was found."})
    last = until_end(Run(client, request(portrait, speech), tmp_path))
    assert last.error == "The generation failed: No face was found."
    assert last.generation_id == "lip_1"


def test_a_bad_file_is_never_sent(
    client: KolboClient, server: Scripted, tmp_path: Path, speech: Path
) -> None:
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    last = until_end(Run(client, request(fake, speech), tmp_path))
    assert last.error
    assert server.requests == []


def test_cancel_reaches_the_api(
    client: KolboClient, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts(hint=30)  # the cancel does not wait for the next poll
    server.on_status({"state": "processing", "progress": 1})
    server.on(
        "POST /v1/generate/lip_1/cancel",
        Reply(json={"success": True, "generation_id": "lip_1", "state": "cancelled"}),
    )
    run = Run(client, request(portrait, speech), tmp_path)
    run.start()
    wait_for("GET /v1/generate/lip_1/status", server)
    run.cancel()
    assert run.fault is None
    assert until_over(run).cancelled
    assert server.count("POST /v1/generate/lip_1/cancel") == 1


def until_over(run: Run) -> Stage:
    deadline = time.monotonic() + 30
    while not run.stage.final:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run.stage


def test_what_is_read_out_of_an_upload_stands_still(
    client: KolboClient, server: Scripted, portrait: Path, tmp_path: Path
) -> None:
    server.starts()
    server.on_status({"state": "failed", "error": "Enough for this test."})
    stages: list[Stage] = []
    voice = sparse_wav(tmp_path / "long.wav", 20)
    until_end(Run(client, request(portrait, voice), tmp_path, stages.append))
    sending = [stage for stage in stages if "MB" in stage.headline]
    assert len({stage.headline for stage in sending}) > 3  # the eye sees it grow
    assert {stage.spoken for stage in sending} == {"Sending your files"}


def test_cancel_while_it_is_being_accepted(
    client: KolboClient, server: Scripted, tmp_path: Path
) -> None:
    server.starts()
    server.script["POST /api/v1/generate/lipsync"][0].hang = 0.5
    server.on(
        "POST /v1/generate/lip_1/cancel",
        Reply(json={"success": True, "generation_id": "lip_1", "state": "cancelled"}),
    )
    server.on_status({"state": "cancelled"})
    run = Run(client, request("https://a.example/p.jpg", "https://a.example/s.mp3"), tmp_path)
    run.start()
    wait_for("POST /v1/generate/lipsync", server)
    run.cancel()
    assert not run.stage.cancelled  # not before its id is known and it is really stopped
    assert until_over(run).cancelled
    assert server.count("POST /v1/generate/lip_1/cancel") == 1


def test_cancel_while_uploading(
    client: KolboClient, server: Scripted, portrait: Path, tmp_path: Path
) -> None:
    server.on("POST /v1/generate/lipsync", Reply(read=4096, hang=1, drop=True))
    run = Run(client, request(portrait, sparse_wav(tmp_path / "long.wav", 90)), tmp_path)
    run.start()
    wait_for("POST /v1/generate/lipsync", server)
    run.cancel()
    assert run.stage.cancelled
    assert server.count("POST /v1/generate/lip_1/cancel") == 0


def test_a_cancel_that_fails_is_told(
    client: KolboClient, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts(hint=0.2)
    server.on_status({"state": "processing", "progress": 1})
    server.on("POST /v1/generate/lip_1/cancel", Reply(404, {"success": False, "error": "No."}))
    run = Run(client, request(portrait, speech), tmp_path)
    run.start()
    wait_for("GET /v1/generate/lip_1/status", server)
    run.cancel()
    assert "still running" in (run.fault or "")
    assert not run.stage.final
    server.on_status(server.completed())
    assert until_over(run).video


def test_a_result_that_is_not_marked_is_marked_here(
    client: KolboClient,
    server: Scripted,
    portrait: Path,
    speech: Path,
    talking: Path,
    tmp_path: Path,
) -> None:
    server.starts()
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    last = until_end(Run(client, request(portrait, speech), tmp_path, mark=True))
    assert last.video, last.error
    plain, marked = (np.asarray(frame_at(path), np.int16) for path in (talking, last.video))
    height, width = plain.shape[:2]
    drawn = Watermark(width, height)(plain.astype(np.uint8)).astype(np.int16)
    assert np.abs(marked - drawn).mean() < 4 < np.abs(plain - drawn)[height * 3 // 4 :].mean()
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["result.mp4"]
    assert "visible_mark" not in server.requests[0].parts


def test_a_marked_result_stays_as_it_came(
    client: KolboClient, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.starts()
    done = server.completed()
    done["result"]["visible_mark"] = True
    server.on_status(done)
    asked = GenerationRequest(portrait, speech, options=Options(mark=True))
    last = until_end(Run(client, asked, tmp_path, mark=True))
    assert last.video
    assert last.video.read_bytes() == VIDEO
    assert server.requests[0].parts["visible_mark"][2] == b"true"


@pytest.mark.parametrize("readable", [True, False])
def test_a_result_s_metadata_say_what_it_is(
    client: KolboClient,
    server: Scripted,
    portrait: Path,
    speech: Path,
    talking: Path,
    tmp_path: Path,
    readable: bool,
) -> None:
    server.starts()
    server.on_status(server.completed())
    if readable:
        server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    signer = Signer(Settings(data_dir=tmp_path / "data"))
    last = until_end(Run(client, request(portrait, speech), tmp_path, local=False, signer=signer))
    assert last.video, last.error
    if readable:
        found = read(last.video)
        assert (found.state, found.visible_mark) == ("intact", "")
        assert found.comment == found.statement
        [original] = found.ingredients
        assert original.sha256 == hashlib.sha256(talking.read_bytes()).hexdigest()
        with av.open(str(last.video)) as file:
            assert "AI-generated" in file.metadata["comment"]
    else:  # whatever the API made is handed out all the same
        assert last.video.read_bytes() == VIDEO
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["result.mp4"]

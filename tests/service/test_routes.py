"""The endpoints as Kolbo documents them, and the envelope on everything that goes wrong."""

import base64
import io
import re
import subprocess
import time
from pathlib import Path

import pytest
import requests
from PIL import Image

ASSETS = Path(__file__).parents[2] / "assets"


def test_models_of_both_kinds_come_with_their_limits(api):
    reply = api.get("/v1/models", params={"type": "lipsync"}).json()
    assert reply["success"] is True
    assert reply["count"] == len(reply["models"]) == 2
    assert {t for m in reply["models"] for t in m["types"]} == {"lipsync-image", "lipsync-video"}
    for model in reply["models"]:
        assert model["identifier"]
        assert model["summary"]
        assert model["credit"] == 0
        assert 0 < model["min_audio_duration"] < model["max_audio_duration"]
        assert model["max_file_size"] == 100 * 1024 * 1024


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 2),
        ({"type": ""}, 2),
        ({"type": "lipsync-image"}, 1),
        ({"type": "lipsync-video"}, 1),
        ({"type": "text_to_image"}, 0),
        ({"type": "lipsync", "provider": "kolbo-local"}, 2),
        ({"type": "lipsync", "provider": "fal"}, 0),
    ],
)
def test_models_are_filtered_by_type_and_provider(api, query, count):
    assert api.get("/v1/models", params=query).json()["count"] == count


def test_credits_are_four_numbers(api):
    reply = api.get("/v1/account/credits").json()
    assert reply["success"] is True
    assert set(reply["credits"]) == {"total", "plan_credits", "credit_pack", "redemption"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/account/credits"),
        ("POST", "/v1/generate/lipsync"),
        ("GET", "/v1/generate/lip_00000000000000000000/status"),
        ("GET", "/v1/generate/lip_00000000000000000000/preview"),
        ("POST", "/v1/generate/lip_00000000000000000000/cancel"),
    ],
)
@pytest.mark.parametrize("key", [None, "", "kolbo_live_wrong", "schlüssel"])
def test_every_endpoint_requires_the_key(api, refused, method, path, key):
    headers = {} if key is None else {"X-API-Key": key.encode()}
    reply = requests.request(method, api.base + path, headers=headers, timeout=10)
    refused(reply, 401, "INVALID_API_KEY")


def test_a_key_as_bearer_is_not_a_key(api, refused):
    headers = {"Authorization": f"Bearer {api.key}"}
    refused(
        requests.get(f"{api.base}/v1/models", headers=headers, timeout=10), 401, "INVALID_API_KEY"
    )


@pytest.mark.parametrize("generation", ["lip_00000000000000000000", "nonsense", "lip_%00"])
def test_an_unknown_generation_is_not_found(api, refused, generation):
    refused(api.get(f"/v1/generate/{generation}/status"), 404, "GENERATION_NOT_FOUND")
    refused(api.cancel(generation), 404, "GENERATION_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "NOT_FOUND"),
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/v1/models/", 404, "NOT_FOUND"),
        ("DELETE", "/v1/models", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/generate/lipsync", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/results/00000000000000000000000000000000.mp4", 404, "RESULT_NOT_FOUND"),
        ("GET", "/v1/results/..%2F..%2Fjobs.sqlite", 404, "NOT_FOUND"),
        ("GET", "/v1/results/jobs.sqlite", 404, "RESULT_NOT_FOUND"),
    ],
)
def test_unknown_paths_return_an_error_reply(api, refused, method, path, status, code):
    refused(requests.request(method, api.base + path, timeout=10), status, code)


def test_a_generation_from_upload_to_download(api, files):
    reply = api.lipsync(
        files=files(0.6),
        data={"prompt": "a warm smile, at dusk", "bounding_box_target": "[0.5, 0.4]"},
    )
    start = reply.json()
    generation = start["generation_id"]
    assert re.fullmatch(r"lip_[0-9a-f]{20}", generation)
    assert start == {
        "success": True,
        "generation_id": generation,
        "type": "lipsync",
        "model": "auto",
        "credits_charged": 0,
        "poll_url": f"/api/v1/generate/{generation}/status",
        "poll_interval_hint": start["poll_interval_hint"],
    }
    assert start["poll_interval_hint"] >= 1
    status = api.finish(generation)
    assert status["state"] == "completed", status
    result = status["result"]
    assert result["duration"] == pytest.approx(0.6, abs=0.05)
    assert result["aspect_ratio"] == "1:1"
    assert result["prompt_used"] == "smiling (not used: dusk)"
    assert result["model"] in [
        m["identifier"] for m in api.get("/v1/models?type=lipsync-image").json()["models"]
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", result["created_at"])
    [url] = result["urls"]
    assert url.startswith(f"{api.base}/v1/results/")
    assert generation.removeprefix("lip_") not in url
    video = requests.get(url, timeout=10)  # no key
    assert video.headers["content-type"] == "video/mp4"
    assert video.headers["x-content-type-options"] == "nosniff"
    assert video.content[4:8] == b"ftyp"
    part = requests.get(url, headers={"Range": "bytes=4-7"}, timeout=10)
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert requests.head(url, timeout=10).headers["content-length"] == str(len(video.content))
    thumbnail = requests.get(result["thumbnail_url"], timeout=10)
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert thumbnail.content.startswith(b"\xff\xd8")


def test_the_latest_frame_of_a_render_needs_the_key(api, files, speech, refused):
    generation = api.start(files=files(12))
    path = f"/v1/generate/{generation}/preview"
    frames = []

    def seen(status):
        frames.append(api.get(path).json().get("jpeg"))
        return frames[-1] or status["state"] != "processing"

    api.until(generation, seen)
    assert frames[-1], "no frame before the video"
    with Image.open(io.BytesIO(base64.b64decode(frames[-1]))) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (160, 160)
    other_key = {"X-API-Key": "kolbo_live_" + "0" * 40}
    refused(api.get(path, headers=other_key), 401, "INVALID_API_KEY")
    unknown = f"/v1/generate/lip_{'0' * 20}/preview"
    refused(api.get(unknown), 404, "GENERATION_NOT_FOUND")
    api.cancel(generation)
    deadline = time.monotonic() + 60
    while api.get(path).json().get("jpeg"):
        assert time.monotonic() < deadline, "the frame outlives its generation"
        time.sleep(0.25)


@pytest.mark.parametrize("field", ["video", "image"])
def test_a_clip_in_the_image_field_is_a_clip(api, files, field):
    clip = (ASSETS / "clip.mp4").read_bytes()
    generation = api.start(files=files(0.4, **{"image": None, field: clip}))
    status = api.finish(generation)
    assert status["state"] == "completed", status
    clips = api.get("/v1/models?type=lipsync-video").json()["models"]
    assert status["result"]["model"] in [model["identifier"] for model in clips]
    assert status["result"]["duration"] == pytest.approx(0.4, abs=0.1)


def test_an_invalid_range_gets_an_error_reply(api, refused):
    url = f"{api.base}/v1/results/00000000000000000000000000000000.mp4"
    refused(requests.get(url, headers={"Range": "lines=1"}, timeout=10), 400, "INVALID_RANGE")


def test_curl_as_documented(api, tmp_path, portrait, speech):
    (tmp_path / "portrait.jpg").write_bytes(portrait)
    (tmp_path / "speech.mp3").write_bytes(speech(0.4))  # a wrong name does not matter
    form = ["-F", "image=@portrait.jpg", "-F", "audio=@speech.mp3"]
    key = ["-H", f"X-API-Key: {api.key}"]
    made = subprocess.run(
        ["curl", "-s", "-X", "POST", f"{api.base}/v1/generate/lipsync", *key, *form],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"generation_id":"lip_' in made.stdout
    generation = made.stdout.split('"generation_id":"')[1].split('"')[0]
    assert api.cancel(generation).status_code == 200

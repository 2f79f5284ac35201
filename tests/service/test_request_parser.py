"""What a start request may hold, and the refusal of what cannot work."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.waiting import wait

PUBLIC = "http://files.example.invalid"
JPEG = f"{PUBLIC}/portrait.jpg"
MP3 = f"{PUBLIC}/speech.mp3"
MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "MISSING_FIELDS"),
        ({"source_url": JPEG}, "MISSING_FIELDS"),
        ({"audio_url": MP3}, "MISSING_FIELDS"),
        ({"source_url": JPEG, "audio_url": None}, "MISSING_FIELDS"),
        ({"source_url": JPEG, "audio_url": ""}, "MISSING_FIELDS"),
        ({"source_url": JPEG, "audio_url": 7}, "INVALID_AUDIO_URL"),
        ({"source_url": ["a"], "audio_url": MP3}, "INVALID_SOURCE_URL"),
        ({"source_url": "portrait.jpg", "audio_url": MP3}, "INVALID_SOURCE_URL"),
        ({"source_url": JPEG, "audio_url": MP3, "model": "nobody/knows"}, "MODEL_NOT_FOUND"),
        ({"source_url": JPEG, "audio_url": MP3, "model": 1}, "INVALID_MODEL"),
        ({"source_url": JPEG, "audio_url": MP3, "prompt": {}}, "INVALID_PROMPT"),
        ({"source_url": JPEG, "audio_url": MP3, "prompt": "x" * 2001}, "INVALID_PROMPT"),
        ({"source_url": JPEG, "audio_url": MP3, "prompt": "\ud800"}, "INVALID_PROMPT"),
        ({"source_url": JPEG, "audio_url": MP3, "visible_mark": "much"}, "INVALID_VISIBLE_MARK"),
    ],
)
def test_invalid_json_is_refused(api, refused, body, code):
    refused(api.lipsync(json=body), 400, code)


@pytest.mark.parametrize(
    "face",
    [[0.5], [0.5, 1.2], [-0.1, 0.5], [0.1, 0.2, 0.3, 0.4], "0.5", {}, ["a", "b"], 0.5],
    ids=str,
)
def test_a_face_point_outside_the_picture_is_refused(api, refused, files, face):
    body = {"source_url": JPEG, "audio_url": MP3, "bounding_box_target": face}
    said = refused(api.lipsync(json=body), 400, "INVALID_BOUNDING_BOX_TARGET")
    assert "[x, y]" in said
    form = {"bounding_box_target": json.dumps(face)}
    refused(api.lipsync(files=files(), data=form), 400, "INVALID_BOUNDING_BOX_TARGET")


@pytest.mark.parametrize("text", ["NaN", "[NaN, 0.5]", "[Infinity, 0.5]", "0.5,0.5", "[" * 9999])
def test_a_face_point_that_is_no_list_is_refused(api, refused, files, text):
    form = {"bounding_box_target": text}
    refused(api.lipsync(files=files(), data=form), 400, "INVALID_BOUNDING_BOX_TARGET")


def test_a_model_for_the_other_kind_of_source_is_refused(api, refused, files):
    clip = api.get("/v1/models?type=lipsync-video").json()["models"][0]["identifier"]
    still = api.get("/v1/models?type=lipsync-image").json()["models"][0]["identifier"]
    refused(api.lipsync(files=files(), data={"model": clip}), 400, "WRONG_MODEL_TYPE")
    for link, model in [(JPEG, clip), (f"{PUBLIC}/a.MP4?name=b.jpg#c", still)]:
        body = {"source_url": link, "audio_url": MP3, "model": model}
        refused(api.lipsync(json=body), 400, "WRONG_MODEL_TYPE")


def test_the_requested_model_is_in_the_reply(api, files):
    still = api.get("/v1/models?type=lipsync-image").json()["models"][0]["identifier"]
    reply = api.lipsync(files=files(), data={"model": still}).json()
    assert reply["model"] == still
    api.cancel(reply["generation_id"])


@pytest.mark.parametrize(
    ("changed", "data", "code"),
    [
        ({"image": None}, {}, "MISSING_FIELDS"),
        ({"audio": None}, {}, "MISSING_FIELDS"),
        ({}, {"source_url": JPEG}, "CONFLICTING_SOURCE"),
        ({}, {"audio_url": MP3}, "CONFLICTING_AUDIO"),
        ({"video": b"\0\0\0\x18ftypmp42"}, {}, "CONFLICTING_SOURCE"),
        ({"image": b""}, {}, "INVALID_SOURCE"),
        ({"audio": b""}, {}, "INVALID_AUDIO"),
        ({"image": b"only some words\n" * 99}, {}, "INVALID_SOURCE"),
        ({"audio": b"only some words\n" * 99}, {}, "INVALID_AUDIO"),
        ({"image": None}, {"image": "portrait.jpg"}, "INVALID_SOURCE"),
        ({}, {"prompt": "x" * 70_000}, "INVALID_PROMPT"),
        ({}, {"prompt": b"\xff\xfe"}, "INVALID_PROMPT"),
    ],
)
def test_invalid_forms_are_refused(api, refused, files, service_folder, changed, data, code):
    refused(api.lipsync(files=files(**changed), data=data), 400, code)


def test_swapped_picture_and_sound_are_refused(api, refused, portrait, speech):
    swapped = {"image": ("a.jpg", speech(0.3)), "audio": ("a.wav", portrait)}
    refused(api.lipsync(files=swapped), 400, "INVALID_SOURCE")
    refused(
        api.lipsync(files={"image": ("a.jpg", portrait), "audio": ("a.wav", portrait)}),
        400,
        "INVALID_AUDIO",
    )


def test_two_files_for_one_field_are_refused(api, refused, portrait, speech):
    both = [("image", ("a", portrait)), ("image", ("b", portrait)), ("audio", ("c", speech(0.3)))]
    refused(api.lipsync(files=both), 400, "CONFLICTING_SOURCE")


def test_extras_of_other_clients_are_tolerated(api, files, portrait):
    extras = {
        "sync_mode": "cut_off",
        "temperature": "0.5",
        "active_speaker_detection": '{"auto_detect": true}',
        "model": "",
        "prompt": "",
    }
    more = files() | {"face_image": ("x.png", portrait), "video": ("", b"")}
    generation = api.start(files=more, data=extras, headers={"X-Kolbo-Caller-Session-Id": "abc"})
    api.cancel(generation)
    body = {"source_url": JPEG, "audio_url": MP3, "sync_mode": 3, "image": "x", "project_id": None}
    api.cancel(api.start(json=body))


@pytest.mark.parametrize(
    "name", ["a b.jpg", 'it\'s "quoted".jpg', "смайл 😀.jpg", "../../up.jpg", "x" * 300 + ".png"]
)
def test_file_names_do_not_matter(api, portrait, speech, name):
    given = {"image": (name, portrait), "audio": (name, speech(0.3))}
    api.cancel(api.start(files=given))


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": "application/json"}, b"", 400, "MISSING_FIELDS"),
        ({}, b"", 400, "MISSING_FIELDS"),
        ({"Content-Type": "application/json"}, b"{", 400, "INVALID_JSON"),
        ({"Content-Type": "application/json"}, b"[1]", 400, "INVALID_JSON"),
        ({"Content-Type": "application/json"}, b"\xff", 400, "INVALID_JSON"),
        ({"Content-Type": "application/json"}, b"[" * 100_000, 400, "INVALID_JSON"),
        ({"Content-Type": "application/json"}, b" " * (MEGABYTE + 1), 413, "FILE_TOO_LARGE"),
        ({"Content-Type": "text/plain"}, b"hello", 415, "UNSUPPORTED_CONTENT_TYPE"),
        ({"Content-Type": "multipart/form-data"}, b"x", 400, "INVALID_FORM"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"nonsense", 400, "INVALID_FORM"),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\ncut off',
            400,
            "INVALID_FORM",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n' * 101 + b"--b--\r\n",
            400,
            "INVALID_FORM",
        ),
    ],
)
def test_broken_bodies_are_refused(api, refused, headers, body, status, code):
    refused(api.lipsync(data=body, headers=headers), status, code)


class Sparse:
    """A form with a file of so many zero bytes, made as it is sent. `len` where it is told."""

    head = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    tail = b"\r\n--b--\r\n"

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self):
        yield self.head
        piece = b"\0" * MEGABYTE
        for _ in range(self.size // MEGABYTE):
            yield piece
        yield self.tail


class Told(Sparse):
    def __len__(self) -> int:
        return len(self.head) + self.size + len(self.tail)


@pytest.mark.parametrize("form", [Sparse, Told])
def test_a_file_of_101_megabytes_is_refused(api, refused, service_folder, form):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    said = refused(api.lipsync(data=form(101 * MEGABYTE), headers=headers), 413, "FILE_TOO_LARGE")
    assert "100 MB" in said


def upload_head(api, length: int) -> bytes:
    """The head of a start request whose form has `length` bytes."""
    return (
        f"POST /api/v1/generate/lipsync HTTP/1.1\r\nHost: {urlsplit(api.base).netloc}\r\n"
        f"X-API-Key: {api.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_a_body_of_endless_length_is_refused_by_its_header(api, refused):
    split = urlsplit(api.base)
    with socket.create_connection((split.hostname, split.port), timeout=10) as link:
        link.sendall(upload_head(api, 9_999_999_999))
        link.shutdown(socket.SHUT_WR)
        # The connection ended within the body, so whatever comes is a refusal or nothing.
        assert b" 200 " not in link.recv(1000)


def test_a_wrong_key_is_reported_during_the_upload(api, refused):
    headers = {"Content-Type": "multipart/form-data; boundary=b", "X-API-Key": "wrong"}
    reply = requests.post(
        f"{api.base}/v1/generate/lipsync", data=Told(20 * MEGABYTE), headers=headers, timeout=30
    )
    refused(reply, 401, "INVALID_API_KEY")


def test_a_refused_or_aborted_request_leaves_no_file(api, refused, files, service_folder):
    def there() -> set[Path]:
        return {file for part in ("inputs", "work") for file in (service_folder / part).iterdir()}

    before = there()
    refused(api.lipsync(files=files(audio=b"words")), 400, "INVALID_AUDIO")
    assert there() == before
    split = urlsplit(api.base)
    with socket.create_connection((split.hostname, split.port), timeout=10) as link:
        link.sendall(upload_head(api, 1_000_000) + Sparse.head + b"\0" * 100_000)
        wait(lambda: there() - before)
    wait(lambda: there() == before)

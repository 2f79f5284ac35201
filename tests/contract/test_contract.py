"""The client against the live service, over HTTP, with the real engine behind it."""

from pathlib import Path

import av
import pytest
import requests

from kolbo_demo.client import (
    ApiError,
    AuthError,
    GenerationCancelledError,
    GenerationFailedError,
    KolboClient,
    NotFoundError,
)
from kolbo_demo.contract import FINAL_STATES
from kolbo_demo.options import Options
from kolbo_demo.service.app import LocalService
from tests.contract.conftest import SECONDS, Media


def seconds_of(path: Path) -> float:
    """Length of the picture, every frame decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert len(container.streams.audio) == 1
        assert stream.average_rate
        return sum(1 for _ in container.decode(stream)) / float(stream.average_rate)


def test_a_portrait_from_file_to_file(client: KolboClient, media: Media, tmp_path: Path) -> None:
    sent: list[int] = []
    generation = client.lipsync(
        media.folder / "portrait.jpg",
        media.folder / "speech.mp3",
        Options(prompt="A smile ☺", face=(0.5, 0.4)),
        on_upload=lambda done, total: sent.append(total - done),
    )
    assert sent[-1] == 0
    assert generation.started
    assert generation.started.model == "auto"
    assert generation.started.poll_url == f"/api/v1/generate/{generation.id}/status"
    reopened = client.generation(generation.id, poll_interval=0.2)
    statuses = list(reopened.events(timeout=120))
    assert statuses[-1].state == "completed"
    assert not [status for status in statuses[:-1] if status.state in FINAL_STATES]
    result = statuses[-1].result
    assert result
    assert result.duration == pytest.approx(SECONDS, abs=0.15)
    assert result.aspect_ratio == "1:1"
    assert result.prompt_used == "smiling (not used: ☺)"
    path = reopened.download(tmp_path / "out.mp4")
    assert seconds_of(path) == pytest.approx(SECONDS, abs=0.15)
    assert requests.get(result.urls[0], timeout=10).content == path.read_bytes()
    assert reopened.cancel().state == "completed"


def test_a_clip_and_a_voice_by_link(client: KolboClient, media: Media, tmp_path: Path) -> None:
    generation = client.lipsync(f"{media.url}/clip.mp4?v=1.jpg", f"{media.url}/speech.mp3")
    assert generation.wait(120).state == "completed"
    path = generation.download(tmp_path / "ein Clip ☺.mp4")
    assert seconds_of(path) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("linked", ["source", "audio"])
def test_file_and_link_mixed_then_cancelled(client: KolboClient, media: Media, linked: str) -> None:
    source, audio = (
        f"{media.url}/{name}" if role == linked else media.folder / name
        for role, name in (("source", "portrait.jpg"), ("audio", "speech.mp3"))
    )
    generation = client.lipsync(source, audio)
    assert generation.cancel().state == "cancelled"
    with pytest.raises(GenerationCancelledError):
        generation.wait(30)
    assert generation.cancel().state == "cancelled"


def test_models_and_credits(client: KolboClient) -> None:
    kinds = {kind for model in client.models() for kind in model.types}
    assert kinds == {"lipsync-image", "lipsync-video"}
    assert client.credits().total >= 0


def test_every_model_can_be_chosen(client: KolboClient, media: Media) -> None:
    for model in client.models():
        name = "portrait.jpg" if "lipsync-image" in model.types else "clip.mp4"
        generation = client.lipsync(
            media.folder / name, media.folder / "speech.mp3", Options(model=model.identifier)
        )
        assert generation.started
        assert generation.started.model == model.identifier
        generation.cancel()


def test_refusals_are_typed_errors(
    live_service: LocalService, client: KolboClient, media: Media
) -> None:
    links = f"{media.url}/portrait.jpg", f"{media.url}/speech.mp3"
    with pytest.raises(ApiError) as caught:
        client.lipsync(*links, Options(model="nobody/nothing"))
    assert (caught.value.status, caught.value.code) == (400, "MODEL_NOT_FOUND")
    stranger = KolboClient("kolbo_live_" + "0" * 40, live_service.base_url)
    for ask in (stranger.models, stranger.credits, lambda: stranger.lipsync(*links)):
        with pytest.raises(AuthError) as refused:
            ask()
        assert (refused.value.status, refused.value.code) == (401, "INVALID_API_KEY")
    with pytest.raises(NotFoundError):
        client.generation("lip_unknown").status()
    with pytest.raises(NotFoundError):
        client.generation("lip_unknown").cancel()


@pytest.mark.parametrize("path", ["page.html", "missing.jpg"])
def test_a_link_without_a_picture_fails(client: KolboClient, media: Media, path: str) -> None:
    _fails(client, f"{media.url}/{path}", f"{media.url}/speech.mp3")


def test_a_link_to_a_private_address_fails(client: KolboClient, media: Media) -> None:
    private = media.url.replace("localhost", "127.0.0.1")
    _fails(client, f"{private}/portrait.jpg", f"{media.url}/speech.mp3")


def _fails(client: KolboClient, source: str, audio: str) -> None:
    """Refused at once or failed later: either way a typed error with a sentence."""
    with pytest.raises((ApiError, GenerationFailedError)) as caught:
        client.lipsync(source, audio).wait(60)
    assert str(caught.value)[0].isupper()
    assert str(caught.value).endswith(".")

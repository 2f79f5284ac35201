"""The live service, and a host beside it that serves a portrait, a voice and a clip."""

import functools
import threading
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from PIL import Image

from kolbo_demo.client import KolboClient
from kolbo_demo.service.app import LocalService

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SECONDS = 0.8
"""Of speech: enough for lips to move, short enough for a quick test."""


@dataclass(frozen=True)
class Media:
    """portrait.jpg, speech.mp3 and clip.mp4 in a folder and under a link, by the names that Kolbo's
    samples use."""

    folder: Path
    url: str


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Media]:
    """The files, served as `localhost`, which the live service may fetch from."""
    folder = tmp_path_factory.mktemp("samples")
    with Image.open(ASSETS / "portrait.jpg") as image:
        portrait = image.convert("RGB").resize((256, 256))
    portrait.save(folder / "portrait.jpg")
    (folder / "page.html").write_text("<html>Not a picture.</html>")
    with wave.open(str(ASSETS / "speech.wav")) as file:
        rate = file.getframerate()
        sound = np.frombuffer(file.readframes(int(rate * SECONDS)), np.int16)
    with av.open(str(folder / "speech.mp3"), "w") as container:
        stream = container.add_stream("mp3", rate=rate, layout="mono")
        assert isinstance(stream, AudioStream)
        frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = portrait.size
        stream.pix_fmt = "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_image(portrait)))
        container.mux(stream.encode())
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Media(folder, f"http://localhost:{server.server_address[1]}")
        server.shutdown()
        thread.join()


@pytest.fixture
def client(live_service: LocalService) -> KolboClient:
    """A client of the live service."""
    return KolboClient(live_service.api_key, live_service.base_url)

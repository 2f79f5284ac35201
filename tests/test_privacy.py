"""Nobody is contacted whom the visitor did not ask for."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions

import pytest

LISTEN = """
import json, sys
asked = []
sys.addaudithook(
    lambda event, args: asked.append(repr(args))
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto")
    else None
)
import kolbo_demo
import gradio, hama, hibari, huggingface_hub.constants, onnxruntime
from ai_edge_litert import interpreter
with gradio.Blocks():
    gradio.Image()
hibari.Hibari()
print(json.dumps({
    "asked": asked,
    "gradio": gradio.analytics.analytics_enabled(),
    "hub": not huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY,
}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a fresh process asked the network for, and what it left in a new home."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    kept.pop("GRADIO_ANALYTICS_ENABLED", None)
    run = subprocess.run(
        [sys.executable, "-c", LISTEN],
        env=kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        stdout=subprocess.PIPE,
        check=True,
    )
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    return json.loads(run.stdout) | {"left": left}


def test_libraries_report_no_usage(told):
    assert told["asked"] == []
    assert not told["gradio"]
    assert not told["hub"]


def test_no_device_id_is_left_behind(told):
    assert not [path for path in told["left"] if "onnxruntime" in path]


def test_one_opencv_and_no_mediapipe():
    names = {dist.name.lower().replace("_", "-") for dist in distributions()}
    assert {name for name in names if "opencv" in name} == {"opencv-python-headless"}
    assert "mediapipe" not in names

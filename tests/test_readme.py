"""README is a valid Space card, opens with the two commands, and says only what is so."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from kolbo_demo.media.probe import inspect_audio, inspect_source
from kolbo_demo.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CARD, BODY = re.fullmatch(
    r"---\n(.*?)\n---\n(.*)", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
).groups()  # pyright: ignore[reportOptionalMemberAccess]
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def card():
    return yaml.safe_load(CARD)


def test_front_matter_is_a_gradio_space(card):
    assert card["sdk"] == "gradio"
    assert card["python_version"] == "3.11"
    assert card["title"]
    assert card["emoji"]
    assert {card["colorFrom"], card["colorTo"]} <= COLORS
    assert len(card["short_description"]) <= 60
    assert (ROOT / card["app_file"]).is_file()
    assert (ROOT / card["thumbnail"]).is_file()
    assert card["suggested_hardware"] == "cpu-basic"
    assert {"lipsync", "mcp-server"} <= set(card["tags"])
    assert card["license"] == "apache-2.0"
    assert card["hf_oauth"] is True


def test_the_space_runs_a_gradio_that_requirements_allow(card):
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    gradio = next(Requirement(line) for line in lines if line.startswith("gradio"))
    assert card["sdk_version"] in gradio.specifier
    assert version("gradio") in gradio.specifier


def test_opens_with_the_two_commands():
    blocks = re.findall(r"```sh\n(.*?)```", BODY, re.DOTALL)
    assert blocks[:2] == ["bash script/run\n", "bash script/test\n"]
    assert BODY.index(blocks[1]) < BODY.index("\n## ")


def test_every_variable_is_in_the_table_for_operators():
    told, short = (
        re.findall(r"^\| `(KOLBO_\w+)`", text, re.MULTILINE)
        for text in ((ROOT / "docs/operations.md").read_text("utf-8"), BODY)
    )
    assert sorted(told) == sorted(f"KOLBO_{name.upper()}" for name in Settings.model_fields)
    assert set(short) <= set(told)


def test_everything_linked_is_there():
    linked = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", BODY)
    assert len(linked) > 10
    assert not [name for name in linked if not (ROOT / name).exists()]


def test_the_python_sample_makes_a_video(live_service, tmp_path):
    sample = re.findall(r"```python\n(.*?)```", BODY, re.DOTALL)[0]
    for name in ("portrait.jpg", "speech.wav"):
        shutil.copy(ROOT / "assets" / name, tmp_path)
    ours = {
        "PYTHONPATH": str(ROOT),
        "KOLBO_API_URL": live_service.base_url,
        "KOLBO_API_KEY": live_service.api_key.get_secret_value(),
    }
    run = subprocess.run(
        [sys.executable, "-c", sample],
        cwd=tmp_path,
        env=os.environ | ours,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "completed 100.0"
    made = inspect_source(tmp_path / "talking.mp4")
    voice = inspect_audio(tmp_path / "speech.wav")
    assert made.duration == pytest.approx(voice.duration, abs=0.05)

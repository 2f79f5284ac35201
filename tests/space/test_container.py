"""Dockerfile and compose.yaml, as far as they can be checked without a container engine."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from kolbo_demo.settings import Settings

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
INSTRUCTIONS = [tuple(line.split(maxsplit=1)) for line in LINES if line and line[0] != "#"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def settings_in(text: str) -> set[str]:
    return set(re.findall(r"\bKOLBO_[A-Z_]+\b", text))


def test_the_image_serves_as_an_unprivileged_user() -> None:
    names = [name for name, _ in INSTRUCTIONS]
    assert names[0] == "FROM"
    assert arguments("USER") == ["kolbo"]
    assert "COPY" not in names[names.index("USER") :]  # what was copied before is root's
    assert json.loads(arguments("CMD")[0]) == ["python", "app.py"]
    assert "/healthz" in arguments("HEALTHCHECK")[0]


def test_everything_copied_exists_and_is_sent_to_the_build() -> None:
    copied = {name for rest in arguments("COPY") for name in shlex.split(rest)[:-1]}
    sent = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert all((ROOT / name).exists() for name in copied)
    assert all(any(Path(name).match(pattern) for pattern in sent) for name in copied)


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_only_settings_that_exist_are_set(file: str) -> None:
    known = {f"KOLBO_{name.upper()}" for name in Settings.model_fields}
    found = settings_in((ROOT / file).read_text("utf-8"))
    assert found
    assert found <= known


def test_the_composition_has_a_page_two_workers_a_database_and_a_store() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"page", "worker", "database", "store", "bucket"}
    assert services["worker"]["deploy"]["replicas"] == 2
    assert services["worker"]["command"][:3] == ["python", "-m", "kolbo_demo"]
    for name in ("page", "worker"):
        assert services[name]["read_only"]
        assert set(services[name]["depends_on"]) <= set(services)
        used = services[name]["environment"]
        assert used["KOLBO_DATABASE_URL"].startswith("postgresql://")
    assert services["page"]["ports"] == ["127.0.0.1:7860:7860"]
    volumes = {v.partition(":")[0] for each in services.values() for v in each.get("volumes", [])}
    assert volumes == set(COMPOSE["volumes"])

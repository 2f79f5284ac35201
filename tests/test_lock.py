"""The locks are in step with the requirement files: `bash script/lock` renews them."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {
    "requirements.lock": ["requirements.txt"],
    "requirements-dev.lock": ["requirements.txt", "requirements-scale.txt", "requirements-dev.txt"],
}


def _requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [Requirement(line) for line in bare if line]


def _locked(name: str) -> list[Requirement]:
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text("utf-8"))
    pinned = [entry for entry in entries if not entry.startswith("#")]
    assert all("--hash=sha256:" in entry for entry in pinned)
    return [Requirement(entry.partition("\\")[0].strip()) for entry in pinned]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_its_files_ask_for(lock: str) -> None:
    locked = _locked(lock)
    for file in LOCKS[lock]:
        for wanted in _requirements(file):
            name = canonicalize_name(wanted.name)
            pins = [pin for pin in locked if canonicalize_name(pin.name) == name]
            assert pins, f"{wanted} is not in {lock}"
            for pin in pins:
                [version] = [clause.version for clause in pin.specifier]
                assert wanted.specifier.contains(version), f"{lock} has {pin}, {file} {wanted}"


def test_both_locks_have_the_same_versions() -> None:
    run, every = ({str(pin) for pin in _locked(name)} for name in LOCKS)
    assert run <= every

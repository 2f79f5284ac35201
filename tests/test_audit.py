"""What becomes of pip-audit's findings in `.ci/run`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / ".ci/audit.py"
HOLE = {"id": "PYSEC-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": "Bad."}


def package(name: str, *holes: dict) -> dict:
    return {"name": name, "version": "2.0", "vulns": list(holes)}


UNKNOWN = {"name": "gradio", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([package("requests"), package("av")], 0, "None of them has a known hole"),
        ([package("requests", HOLE), UNKNOWN], 1, "requests 2.0: PYSEC-2026-1, fixed in 2.1"),
        ([package("av", {**HOLE, "fix_versions": []})], 1, "no version yet"),
        ([package("setuptools", HOLE), package("av")], 0, "None of them"),
        ([UNKNOWN], 0, "NOT asked at all"),
        (None, 0, "NOT asked"),
    ],
)
def test_findings_fail_and_silence_is_told(tmp_path, packages, code, says) -> None:
    report = tmp_path / "report.json"
    report.write_text("" if packages is None else json.dumps({"dependencies": packages}))
    done = subprocess.run(
        [sys.executable, str(AUDIT), str(report)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout


def test_ci_asks_for_known_holes() -> None:
    """And gives pytest the last word."""
    lines = (AUDIT.parent / "run").read_text().splitlines()
    order = ["-m bandit", "-m pip_audit", "python .ci/audit.py", "exec bash"]
    places = [next(i for i, line in enumerate(lines) if word in line) for word in order]
    assert places == sorted(places)
    assert lines[-1].startswith("exec bash")

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


def audit(report: Path) -> tuple[int, str]:
    """The exit code and what was printed."""
    done = subprocess.run(
        [sys.executable, str(AUDIT), str(report)], capture_output=True, text=True, timeout=30
    )
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([package("requests"), package("av")], 0, "None of them has a known hole"),
        ([package("requests", HOLE), UNKNOWN], 1, "requests 2.0: PYSEC-2026-1, fixed in 2.1"),
        ([package("av", {**HOLE, "fix_versions": []})], 1, "no version yet"),
        ([package("setuptools", HOLE), package("av")], 0, "None of them"),
        ([UNKNOWN], 0, "NOT asked at all"),
        ([UNKNOWN, UNKNOWN], 0, "NOT asked at all"),
    ],
)
def test_findings_fail_and_an_index_without_advisories_passes(
    tmp_path: Path, packages: list[dict], code: int, says: str
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"dependencies": packages, "fixes": []}))
    found, said = audit(report)
    assert found == code
    assert says in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No known vulnerabilities found",
        '{"dependencies": [{"name": "av", "version": "2.0", "vulns": []}',
        "null",
        "[]",
        "{}",
        '{"dependencies": null}',
        '{"dependencies": 3}',
        '{"dependencies": []}',
        '{"dependencies": ["av"]}',
        '{"dependencies": [{}]}',
        '{"dependencies": [{"name": "av", "version": "2.0"}]}',
        '{"dependencies": [{"name": "av", "version": "2.0", "vulns": null}]}',
        '{"dependencies": [{"name": "av", "version": "2.0", "vulns": ["PYSEC-2026-1"]}]}',
        '{"dependencies": [{"name": "av", "skip_reason": ""}]}',
        "\udcff",
        None,
    ],
)
def test_a_report_that_cannot_be_read_fails(tmp_path: Path, text: str | None) -> None:
    report = tmp_path / "report.json"
    if text is not None:
        report.write_bytes(text.encode(errors="surrogateescape"))
    code, said = audit(report)
    assert code == 1
    assert said.startswith("pip-audit gave no readable report (")
    assert len(said.splitlines()) == 1


def test_ci_asks_for_known_holes() -> None:
    """And gives pytest the last word."""
    lines = (AUDIT.parent / "run").read_text().splitlines()
    order = ["-m bandit", "-m pip_audit", "python .ci/audit.py", "exec bash"]
    places = [next(i for i, line in enumerate(lines) if word in line) for word in order]
    assert places == sorted(places)
    assert lines[-1].startswith("exec bash")

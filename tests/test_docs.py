"""What the documents say is tested is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = {
    name: path
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def test_(\w+)", path.read_text("utf-8"), re.MULTILINE)
}
FILES = {path.stem for path in TESTS.values()}


def _is_a_test(told: str) -> bool:
    """Whether a file, a test, or a test's name with dots for a part is one that there is."""
    name = re.sub(r"\[.*", "", told).removeprefix("test_")
    if told in FILES or (told.startswith("tests") and (ROOT / told).exists()):
        return True
    return any(re.fullmatch(re.escape(name).replace(r"\.\.\.", r"\w*"), test) for test in TESTS)


@pytest.mark.parametrize("document", ["reliability.md", "security.md"])
def test_each_row_names_its_tests(document):
    rows = [
        line.rstrip("| ").rpartition("|")[2]
        for line in (ROOT / "docs" / document).read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    told = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(told) > 10
    assert not [name for name in told if not _is_a_test(name) and not name.startswith("python -m")]


def test_architecture_names_modules_that_exist():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    names = [name for name in re.findall(r"`([\w/]+\.py)`", text) if name != "packages.txt"]
    assert len(names) > 40
    paths = [f"/{path.relative_to(ROOT)}" for path in ROOT.glob("*/**/*.py")] + ["/app.py"]
    assert not [name for name in names if not any(path.endswith(f"/{name}") for path in paths)]

"""audit.py REPORT: what pip-audit's JSON report means for a change.

Exits with 1 where there are holes, which it names, and where there is no report to judge by. Where
the index has no advisories, pip-audit reports every package as skipped: that is no fault of the
change, so the exit code is 0.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OF_PYTHON = {"pip", "setuptools"}
"""Put into .venv by Python's own venv module, not by our requirements; nothing runs them there."""


@dataclass(frozen=True)
class Package:
    """A package of the report: skipped, or asked for, with a line for each hole."""

    name: str
    skipped: bool
    holes: list[str]


def read(report: Path) -> list[Package]:
    """The packages of a report. Raises ValueError where it is missing, broken or empty."""
    try:
        packages = [
            _package(each) for each in json.loads(report.read_text("utf-8"))["dependencies"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(type(error).__name__) from error
    if not packages:
        raise ValueError("no packages")
    return packages


def _package(found: dict[str, Any]) -> Package:
    if found.get("skip_reason"):
        return Package(found["name"], skipped=True, holes=[])
    holes = [
        f"{found['name']} {found['version']}: {hole['id']}, fixed in "
        f"{', '.join(hole.get('fix_versions', [])) or 'no version yet'}"
        for hole in found["vulns"]
    ]
    return Package(found["name"], skipped=False, holes=holes)


def main() -> int:
    """The exit code."""
    try:
        packages = read(Path(sys.argv[1]))
    except ValueError as error:
        print(f"pip-audit gave no readable report ({error}): run it again where its index answers.")
        return 1
    asked = [package for package in packages if not package.skipped]
    print(f"Advisories were asked for {len(asked)} of {len(packages)} packages.")
    if not asked:
        print("NOT asked at all: the index here does not have them. Run it where it does.")
        return 0
    holes = [hole for package in asked if package.name not in OF_PYTHON for hole in package.holes]
    print("\n".join(holes) or "None of them has a known hole.")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())

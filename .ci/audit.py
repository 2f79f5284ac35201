"""audit.py REPORT: what pip-audit's JSON report means for a change.

Exits with 1 and names each hole where there are any. Where the advisories could not be asked (no
network, an index without them) it says so and exits with 0: that is no fault of the change.
"""

import json
import sys
from pathlib import Path

OF_PYTHON = {"pip", "setuptools"}
"""Put into .venv by Python's own venv module, not by our requirements; nothing runs them there."""


def main() -> int:
    """The exit code."""
    try:
        packages = json.loads(Path(sys.argv[1]).read_text("utf-8"))["dependencies"]
    except (OSError, ValueError, KeyError) as error:
        print(f"Advisories were NOT asked: pip-audit gave no report ({type(error).__name__}).")
        return 0
    asked = [package for package in packages if "skip_reason" not in package]
    print(f"Advisories were asked for {len(asked)} of {len(packages)} packages.")
    if not asked:
        print("NOT asked at all: the index here does not have them. Run it where it does.")
        return 0
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, fixed in "
        f"{', '.join(hole.get('fix_versions', [])) or 'no version yet'}"
        for package in asked
        for hole in package["vulns"]
        if package["name"] not in OF_PYTHON
    ]
    print("\n".join(holes) or "None of them has a known hole.")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks NAME: prints what was measured, as JSON or with targets beside it."""

import argparse
import json
import sys
from importlib import import_module

NAMES = ("client", "engine", "gallery", "judge", "lips", "page", "scale", "service")


def main() -> int:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--long", action="store_true", help="engine: also 10 minutes against 1")
    parser.add_argument("--strict", action="store_true", help="engine: fail on a missed target")
    given = parser.parse_args()
    module = import_module(f"benchmarks.{given.name}")
    if given.name == "engine":
        return module.main(given.long, given.strict)
    print(json.dumps(module.measure(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

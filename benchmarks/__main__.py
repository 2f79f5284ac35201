"""`python -m benchmarks NAME` prints measurements as JSON, or as a table with targets.

`measure` of a module returns them, `missed` the targets that they miss.
"""

import argparse
import json
import sys
from importlib import import_module

NAMES = (
    "client",
    "credentials",
    "engine",
    "gallery",
    "judge",
    "lips",
    "liveliness",
    "page",
    "results",
    "scale",
    "service",
    "voices",
)
WITHOUT_TARGETS = ("credentials", "gallery", "results")


def main() -> int:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--long", action="store_true", help="engine: also 10 minutes against 1")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail on a missed target",
    )
    given = parser.parse_args()
    if given.strict and given.name in WITHOUT_TARGETS:
        parser.error(f"{given.name} has no targets to fail on")
    module = import_module(f"benchmarks.{given.name}")
    if given.name == "engine":
        return module.main(given.long, given.strict)
    figures = module.measure()
    print(json.dumps(figures, indent=2))
    missed = module.missed(figures) if given.strict else []
    for sentence in missed:
        print(f"Missed: {sentence}.", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())

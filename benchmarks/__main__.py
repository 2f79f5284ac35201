"""python -m benchmarks NAME: prints what was measured as JSON."""

import json
import sys
from collections.abc import Callable
from importlib import import_module

NAMES = ("engine", "gallery", "judge", "lips")


def main() -> int:
    """Run the benchmark that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        print(f"usage: python -m benchmarks {{{','.join(NAMES)}}}", file=sys.stderr)
        return 2
    measure: Callable[[], dict] = import_module(f"benchmarks.{sys.argv[1]}").measure
    print(json.dumps(measure(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How many random cases a test runs: KOLBO_WILD_CASES=N for more, KOLBO_WILD_SEED=N for one."""

import os
from collections.abc import Sequence


def count(usual: int) -> int:
    return int(os.environ.get("KOLBO_WILD_CASES") or usual)


def seeds(usual: int) -> Sequence[int]:
    chosen = os.environ.get("KOLBO_WILD_SEED")
    return [int(chosen)] if chosen else range(count(usual))

"""Benchmarks: `python -m benchmarks NAME` prints what was measured, with ratios of the same run."""

import kolbo_demo  # before numpy: it says how many threads numpy has

__all__ = ["kolbo_demo"]

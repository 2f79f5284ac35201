"""Benchmarks: `python -m benchmarks NAME` prints measurements, as ratios within the same run."""

import kolbo_demo  # before numpy: sets the number of its threads

__all__ = ["kolbo_demo"]

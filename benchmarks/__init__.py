"""Benchmarks: `python -m benchmarks NAME` prints JSON with ratios measured in the same run."""

"""Curves without their fast part. (scipy has the same, and takes a fifth of a second to import,
which every render would wait for.)"""

from typing import Literal

import numpy as np

from kolbo_demo.engine.head_pose import Array

_REACH = 4.0
"""Standard deviations after which a Gaussian is taken to have ended."""


def smoothed(values: Array, steps: float, beyond: Literal["symmetric", "edge"]) -> Array:
    """Values (n,) under a Gaussian whose standard deviation is `steps` values.

    `beyond` their ends they are taken to be mirrored, or to stay as they are.
    """
    reach = int(_REACH * steps + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / steps) ** 2)
    return np.convolve(np.pad(values, reach, beyond), weights / weights.sum(), "valid")

"""Gaussian smoothing of curves. (scipy's takes 0.2 s to import, which delays every render.)"""

from typing import Literal

import numpy as np

from kolbo_demo.engine.head_pose import Array

_TRUNCATE_SIGMAS = 4.0
"""Standard deviations at which the kernel is cut off."""


def smoothed(values: Array, sigma: float, padding: Literal["symmetric", "edge"]) -> Array:
    """`values` (n,) convolved with a Gaussian of `sigma` samples.

    `padding` is numpy's mode for values beyond the ends.
    """
    reach = int(_TRUNCATE_SIGMAS * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, reach, padding), weights / weights.sum(), "valid")

"""Loads the source picture of a still."""

from pathlib import Path

import numpy as np
from PIL import Image

from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.media.probe import upright_picture

STILL_FPS = 25
"""Frames a second of a still's video."""
MAX_STILL_PIXELS = 1920 * 1088
"""Larger stills are scaled down to about this size."""
MAX_STILL_SIDE = 3840
"""Longest side of a still: players refuse much longer ones."""

SCALED_NOTE = "the picture was scaled down to {}x{}"


def load_still(source: Path) -> tuple[Pixels, tuple[str, ...]]:
    """The upright picture, RGB with even sides, within MAX_STILL_PIXELS and MAX_STILL_SIDE, and
    notes on what was changed. Raises MediaError."""
    image, notes = upright_picture(source, min_pixels=MAX_STILL_PIXELS)
    width, height = image.size
    scale = min((MAX_STILL_PIXELS / (width * height)) ** 0.5, MAX_STILL_SIDE / max(width, height))
    scale = min(scale, 1.0)
    size = max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2)
    if scale < 1:
        image = image.resize(size, Image.Resampling.LANCZOS)
        notes = (*notes, SCALED_NOTE.format(*size))
    elif size != image.size:
        image = image.crop((0, 0, width // 2 * 2, height // 2 * 2))
    return np.asarray(image), notes

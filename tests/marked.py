"""The visible mark, looked for in what was downloaded."""

import numpy as np
from PIL import Image

from kolbo_demo.engine.watermark import Watermark


def is_marked(picture: Image.Image) -> bool:
    """Whether letters and plate of the mark stand where they belong."""
    shown = np.asarray(picture.convert("RGB"), np.float32)
    height, width = shown.shape[:2]
    black, white = (np.full(shown.shape, level, np.uint8) for level in (0, 255))
    drawn = Watermark(width, height)
    letters = (drawn(black) > 200).all(axis=2)
    plate = (drawn(white) < 150).all(axis=2)
    return bool(letters.any() and shown[letters].mean() > 190 and shown[plate].mean() < 120)

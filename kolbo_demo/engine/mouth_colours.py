"""Colours, light and sharpness of a mouth's interior, derived from the rest of the face."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.dentition import Dentition
from kolbo_demo.engine.head_pose import LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Array
from kolbo_demo.engine.thin_plate import Map, Pixels

Colour = NDArray[np.floating]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_EYE_WHITES = ((33, 468), (133, 468), (362, 473), (263, 473))
"""Corner and iris of each eye; the white of the eye lies between them."""
_SKIN = (50, 280, 205, 425, 36, 266, 101, 330)
"""Cheeks, in pairs of the picture's left and right."""
MAX_LIGHT_SLOPE = 0.01
"""Greatest change of brightness a millimetre sideways."""
MAX_BLUR_PX = 2.0
"""Standard deviation of the blur of the softest picture that is believed."""
_BLUR_STEP_PX, _SHARP_PX = 1.0, 0.75
"""Blur for comparison, and what is measured on a sharp edge."""
DRAWN_CONTRAST = 12.0
"""Ratio of the 90th percentile of fine detail to its median from which a face is a drawing: lines
on flat areas. Photographs, paintings and 3D figures have 3 to 7, cartoons over 20."""


@dataclass(frozen=True)
class Palette:
    """Colours of one person's mouth: RGB (3,), 0-255."""

    lip: Colour
    cavity: Colour
    tongue: Colour
    teeth: Colour
    dentition: Dentition = field(default_factory=Dentition)
    light: float = 0.0
    """Change of brightness a millimetre to the picture's right, as a share."""
    blur: float = 0.0
    """Standard deviation of the picture's blur, pixels."""

    @classmethod
    def from_picture(cls, rgb: Pixels, points: Array) -> "Palette":
        """Colours derived from lips, skin and eyes; `points` (478, 3) are landmarks in pixels."""
        p = points[:, :2]
        lip = median_colour(rgb, p[[*LOWER_OUTER[2:9]]] * 0.5 + p[[*LOWER_INNER[2:9]]] * 0.5)
        upper = median_colour(rgb, p[[*UPPER_OUTER[2:9]]] * 0.5 + p[[*UPPER_INNER[2:9]]] * 0.5)
        lip = (lip + upper) / 2
        skin = median_colour(rgb, p[[*_SKIN]])
        light = max(float(skin @ LUMA), 1.0)
        # Teeth are as bright as the skin and half as tinted, and tinted as the white of the eyes.
        tan = np.maximum(skin, 1) / light
        tint = np.sqrt(tan)
        eyes = np.array(
            [_colours_at(rgb, at) for at in (p[a] + 0.3 * (p[b] - p[a]) for a, b in _EYE_WHITES)]
        )
        eye = np.median(eyes[np.argsort(eyes @ LUMA)[2:]], axis=0)
        if float(eye @ LUMA) > 0.5 * light:
            # The white of a small eye is unreliable: limit its tint to a range around the skin's.
            least = np.cbrt(tan)
            white = np.clip(eye / float(eye @ LUMA), np.minimum(least, tan), np.maximum(least, tan))
            tint = 0.5 * (tint + white)
        dentition = Dentition.from_face(points, _is_drawn(rgb, p))
        white = np.clip(0.62 * light + 66, 35, 222) * tint * dentition.tone
        luma = max(float(lip @ LUMA), 1.0)
        redder = lip + 0.35 * (lip - luma)
        # Tongues differ less than lips: their brightness is between that of lips and skin.
        tongue = redder * (0.45 * (luma + 0.8 * light) / luma)
        return cls(
            lip=lip,
            cavity=np.clip(0.26 * redder, 3, 70).astype(np.float32),
            tongue=np.clip(tongue, 0, 225).astype(np.float32),
            teeth=np.clip(white, 0, 240).astype(np.float32),
            dentition=dentition,
            light=_light_slope(rgb, p),
            blur=_blur_px(rgb, p),
        )


def _light_slope(rgb: Pixels, points: Array) -> float:
    """Change of the skin's brightness a millimetre to the picture's right, as a share of it."""
    soft = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2.0), np.uint8)
    luma = np.maximum(_colours_at(soft, points[[*_SKIN]]) @ LUMA, 5.0)
    left, right = points[[*_SKIN[::2]]], points[[*_SKIN[1::2]]]
    millimetre = float(np.linalg.norm(points[33] - points[263])) / 92.0
    apart = np.maximum(np.linalg.norm(right - left, axis=1) / max(millimetre, 1e-3), 1.0)
    slope = float(np.median(np.log(luma[1::2] / luma[::2]) / apart))
    return float(np.clip(slope, -MAX_LIGHT_SLOPE, MAX_LIGHT_SLOPE))


def _blur_px(rgb: Pixels, points: Array) -> float:
    """Blur of the eyes' strongest edges, from the ratio of their gradients to those of a picture
    blurred once more (Zhuo and Sim, 2011: "Defocus map estimation from a single image")."""
    eyes = _grey_part(rgb, points[[33, 133, 362, 263, 159, 145, 386, 374, 105, 334]])
    if min(eyes.shape) < 6:
        return 0.0
    sharp, soft = (_gradient(g) for g in (eyes, cv2.GaussianBlur(eyes, (0, 0), _BLUR_STEP_PX)))
    edges = sharp >= np.percentile(sharp, 96)
    ratio = float(np.median(sharp[edges] / np.maximum(soft[edges], 1e-3)))
    variance = _BLUR_STEP_PX**2 / max(ratio**2 - 1, 1e-3) - _SHARP_PX**2
    return float(np.sqrt(np.clip(variance, 0, MAX_BLUR_PX**2)))


def _gradient(grey: cv2.typing.MatLike) -> Map:
    x, y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.hypot(x, y).astype(np.float32)


def _is_drawn(rgb: Pixels, points: Array) -> bool:
    """Whether the face is mostly flat, with lines."""
    grey = _grey_part(rgb, points)
    if min(grey.shape) < 6:
        return False
    detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))
    median, strong = np.percentile(detail, [50, 90])
    return bool(strong > DRAWN_CONTRAST * max(float(median), 0.2))


def _grey_part(rgb: Pixels, points: Array) -> Map:
    """The rectangle around points, luma 0-255; possibly empty."""
    left, top = np.maximum(np.floor(points.min(0)).astype(int), 0)
    right, bottom = np.maximum(np.ceil(points.max(0)).astype(int), 0)
    return (rgb[top:bottom, left:right].astype(np.float32) @ LUMA).astype(np.float32)


def _colours_at(rgb: Pixels, at: Array) -> Colour:
    """Colours (..., 3) of the pixels nearest to points (..., 2)."""
    height, width = rgb.shape[:2]
    x, y = np.moveaxis(np.clip(np.rint(at).astype(int), 0, (width - 1, height - 1)), -1, 0)
    return rgb[y, x].astype(np.float32)


def median_colour(rgb: Pixels, at: Array) -> Colour:
    """Median colour (3,) of the pixels nearest to points (n, 2)."""
    return np.asarray(np.median(_colours_at(rgb, at), axis=0), np.float32)

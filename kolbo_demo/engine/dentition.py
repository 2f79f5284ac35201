"""Shape of painted teeth, different for each person."""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from kolbo_demo.engine.head_pose import EYE_CORNERS_MM, Array
from kolbo_demo.engine.thin_plate import Map

# Seen from the front, teeth narrow as the arch turns away.
_UPPER_WIDTHS_MM = (8.4, 6.2, 5.8, 4.0, 2.8)
_LOWER_WIDTHS_MM = (5.3, 5.7, 5.6, 4.2, 3.2)
"""From the middle outward, of an average person."""
_UPPER_RECESS_MM = (0.0, 0.4, 0.0, 0.3, 0.4)
"""By how much the middle of an upper tooth's edge is above the row's: laterals and premolars."""
_LEFT_MM, _STEP_MM, _COLUMNS = -34.0, 0.1, 681
FACE_TO_TOOTH = 1 / 16
"""Width of an upper central incisor over the width of the face (House and Loop, 1939)."""
FACE_WIDTH, JAW_WIDTH = (234, 454), (172, 397)


@dataclass(frozen=True)
class Dentition:
    """Traits of one person's painted teeth."""

    size: float = 1.0
    """Widths relative to an average person's."""
    roundness: float = 0.5
    """Of the teeth's edges, 0-1."""
    contrast: float = 1.0
    """Of the lines between teeth."""
    tone: float = 1.0
    """Brightness."""
    uneven: tuple[float, ...] = (0.0,) * 20
    """Heights of edges relative to a regular row, mm: upper, then lower teeth, left to right."""
    drawn: bool = False
    """A drawing's: one plain area each."""

    @classmethod
    def from_face(cls, points: Array, drawn: bool = False) -> "Dentition":
        """Traits for a face of landmarks (478, 3), the same for the same picture.

        Teeth are as wide as goes with the face and as round as its jaw is narrow (Williams, 1914);
        the rest is drawn at random, seeded by the face's shape.
        """
        eyes = float(np.linalg.norm(points[33] - points[263]))
        mm = (points - points[2]) * (EYE_CORNERS_MM / max(eyes, 1e-6))
        face, jaw = (float(np.linalg.norm(mm[a] - mm[b])) for a, b in (FACE_WIDTH, JAW_WIDTH))
        random = np.random.default_rng(zlib.crc32(np.rint(mm[::8]).astype(np.int16).tobytes()))
        return cls(
            size=float(np.clip(face * FACE_TO_TOOTH / _UPPER_WIDTHS_MM[0], 0.9, 1.12)),
            roundness=float(np.clip((0.84 - jaw / max(face, 1.0)) / 0.12, 0, 1)),
            contrast=float(random.uniform(0.75, 1.25)),
            tone=float(random.uniform(0.95, 1.03)),
            uneven=tuple(float(v) for v in random.normal(0, [0.14] * 10 + [0.3] * 10)),
            drawn=drawn,
        )


@lru_cache(64)
def tooth_profile(dentition: Dentition, soft: float) -> Map:
    """(columns, 4) across the mouth: height of the upper edge relative to the row's (mm,
    downward), brightness of the upper teeth 0-1, and the same of the lower teeth.

    `soft` is the least width of a line, mm.
    """
    x = _LEFT_MM + _STEP_MM * np.arange(_COLUMNS)
    if dentition.drawn:
        return np.tile(np.array([0, 1, 0, 1], np.float32), (_COLUMNS, 1))
    columns = []
    for widths, recess, uneven, depth, corner in (
        (_UPPER_WIDTHS_MM, _UPPER_RECESS_MM, dentition.uneven[:10], 0.28, 0.4),
        (_LOWER_WIDTHS_MM, (0.0,) * 5, dentition.uneven[10:], 0.26, -0.35),
    ):
        gaps = np.concatenate([[0.0], np.cumsum(widths)]) * dentition.size
        tooth = np.clip(np.searchsorted(gaps, np.abs(x), "right") - 1, 0, 4)
        start, end = gaps[tooth], gaps[tooth + 1]
        across = np.clip(2 * (np.abs(x) - start) / (end - start) - 1, -1, 1)
        rounded = np.abs(across) ** (6 - 3 * dentition.roundness)
        beside = np.minimum(np.abs(x) - start, end - np.abs(x))
        # Lines are as deep as they are thin.
        line = depth * dentition.contrast * 0.3 / max(soft, 0.3) * np.exp(-((beside / soft) ** 2))
        index = np.where(x < 0, 4 - tooth, 5 + tooth)
        edge = np.asarray(uneven)[index] - np.asarray(recess)[tooth] - corner * rounded
        columns += [edge, (1 - line) * (1 - 0.07 * across**2)]
    smooth = cv2.GaussianBlur(np.column_stack(columns), (0, 0), sigmaX=0.1, sigmaY=2.0)
    return np.asarray(smooth, np.float32)


def at_millimetres(profile: Map, x: Map) -> tuple[Map, ...]:
    """The four values of a `tooth_profile` at positions (h, w) mm from the middle."""
    place = ((x - _LEFT_MM) / _STEP_MM).astype(np.float32)
    row = np.zeros_like(place)
    found = cv2.remap(profile[None], place, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return tuple(np.asarray(each, np.float32) for each in cv2.split(found))

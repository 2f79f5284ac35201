"""Synthetic people for test clips: the sample's head, another face, and mouth occlusions."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation

from kolbo_demo.engine.head_pose import LOWER_OUTER, UPPER_OUTER
from kolbo_demo.engine.landmarks import FaceLandmarker, track_face
from kolbo_demo.engine.video_reader import Clip
from tests import samples

Picture = np.ndarray
SKIN = (50, 280, 205, 425, 36, 266, 101, 330)
HEAD = 192
"""Pixels of the square that `talking` yields."""


@dataclass(frozen=True)
class Shot:
    """One picture of a head, `solid` (478, 3) its landmarks."""

    rgb: Picture
    solid: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """Landmarks in the picture, (478, 2)."""
        return self.solid[:, :2]


@cache
def talking(count: int) -> tuple[Shot, ...]:
    """The sample clip's first frames, head and shoulders."""
    with Clip(samples.ASSETS / "clip.mp4") as clip:
        found = list(track_face(clip.frames(count), FaceLandmarker(), None))
    out = []
    for rgb, face in found:
        assert face
        part = np.ascontiguousarray(rgb[52 : 52 + HEAD, 128 : 128 + HEAD])
        out.append(Shot(part, face.points - (128, 52, 0)))
    return tuple(out)


def somebody_else(shot: Shot) -> Shot:
    """Another face, made of this one: mirrored, longer, tanned, with brows and a moustache."""
    rgb, points = shot.rgb.copy(), shot.points
    unit = float(np.linalg.norm(points[33] - points[263]))
    for brow in ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336)):
        line = np.rint(points[list(brow)]).astype(np.int32)
        cv2.polylines(rgb, [line], False, (40, 30, 25), int(0.09 * unit), cv2.LINE_AA)
    under = points[2] + (0, 0.05 * unit)
    axes = int(0.3 * unit), int(0.06 * unit)
    cv2.ellipse(rgb, np.rint(under).astype(int).tolist(), axes, 0, 0, 360, (50, 38, 30), -1)
    tanned = np.clip(rgb * (0.72, 0.6, 0.48), 0, 255).astype(np.uint8)[:, ::-1]
    longer = cv2.resize(tanned, None, fx=0.92, fy=1.06)
    back = shot.solid * (-0.92, 1.06, 1) + (0.92 * (rgb.shape[1] - 1), 0, 0)
    return Shot(np.ascontiguousarray(longer), back)


def put(scene: Picture, shot: Shot, x: float, y: float, size: float = 1.0) -> np.ndarray:
    """Paste a head into a scene, centred at x, y; returns its mouth's position, (2,) pixels."""
    height, width = shot.rgb.shape[:2]
    middle = shot.points.mean(0)
    to = np.array([[size, 0, x - size * middle[0]], [0, size, y - size * middle[1]]])
    mask = np.zeros((height, width), np.float32)
    reach = shot.points.max(0) - shot.points.min(0)
    axes = int(0.66 * reach[0]), int(0.8 * reach[1])
    cv2.ellipse(mask, np.rint(middle).astype(int).tolist(), axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 3)
    across = scene.shape[1], scene.shape[0]
    laid = cv2.warpAffine(shot.rgb, to, across, flags=cv2.INTER_CUBIC)
    alpha = cv2.warpAffine(mask, to, across)[..., None]
    scene[:] = np.clip(scene * (1 - alpha) + laid * alpha + 0.5, 0, 255).astype(np.uint8)
    return mouth_of(shot) @ to[:, :2].T + to[:, 2]


def mouth_of(shot: Shot) -> np.ndarray:
    """Middle of the lips, (2,) pixels."""
    return shot.points[[*UPPER_OUTER, *LOWER_OUTER]].mean(0)


def wall(width: int, height: int, tone: int = 120) -> Picture:
    """A background with some structure."""
    y, x = np.mgrid[:height, :width]
    waves = tone + 18 * np.sin(x / 23) + 14 * np.cos(y / 17)
    return np.repeat(waves[..., None], 3, 2).clip(0, 255).astype(np.uint8)


def hand(shot: Shot, away: float = 0.0) -> Picture:
    """Fingers of the face's own colour over the mouth, `away` (eye distances) below it."""
    rgb, points = shot.rgb, shot.points
    unit = float(np.linalg.norm(points[33] - points[263]))
    x, y = np.rint(points[list(SKIN)]).astype(int).T
    skin = np.median(rgb[y, x], axis=0)
    mask = np.zeros(rgb.shape[:2], np.float32)
    light = mask + 1
    along, across = np.array([0.95, 0.3]), np.array([-0.3, 0.95])
    for finger in range(4):
        middle = mouth_of(shot) + unit * ((finger - 1.5) * 0.24 * across + (0, away))
        start, end = (np.rint(middle + unit * far * along).astype(int) for far in (-0.55, 0.8))
        one = np.zeros(rgb.shape[:2], np.float32)
        cv2.line(one, start.tolist(), end.tolist(), 1.0, int(0.25 * unit), cv2.LINE_AA)
        light = np.where(one > 0.5, 0.7 + 0.3 * cv2.GaussianBlur(one, (0, 0), 0.06 * unit), light)
        mask = np.maximum(mask, one)
    covered = mask[..., None]
    out = rgb * (1 - covered) + covered * skin * light[..., None]
    return np.clip(out, 0, 255).astype(np.uint8)


def microphone(shot: Shot, away: float = 0.0) -> Picture:
    """A dark microphone before the mouth."""
    out = shot.rgb.copy()
    unit = float(np.linalg.norm(shot.points[33] - shot.points[263]))
    head = np.rint(mouth_of(shot) + np.array([0, (0.1 + away) * unit])).astype(int)
    foot = head + np.rint(np.array([0.3, 2.0]) * unit).astype(int)
    cv2.line(out, head.tolist(), foot.tolist(), (45, 45, 48), int(0.14 * unit), cv2.LINE_AA)
    axes = int(0.24 * unit), int(0.3 * unit)
    cv2.ellipse(out, head.tolist(), axes, 10, 0, 360, (28, 28, 30), -1, cv2.LINE_AA)
    shine = head - np.rint(np.array([0.06, 0.1]) * unit).astype(int)
    axes = int(0.06 * unit), int(0.12 * unit)
    cv2.ellipse(out, shine.tolist(), axes, 10, 0, 360, (70, 70, 74), -1, cv2.LINE_AA)
    return out


def turned(shot: Shot, yaw: float, pitch: float) -> tuple[Picture, np.ndarray]:
    """The face alone before a wall, turned by so many degrees in 3D by its landmarks; and their new
    positions, (468, 2)."""
    points = shot.solid[:468].astype(np.float32)
    angle = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
    middle = points.mean(0)
    to = ((points - middle) @ angle.T + middle).astype(np.float32)
    out = np.full_like(shot.rgb, 150)
    corners = Delaunay(points[:, :2]).simplices
    for three in corners[np.argsort(-to[corners, 2].mean(1))]:  # what is far first
        # Laid down a little larger, or seams show between neighbours.
        aim = to[three, :2] + 0.15 * (to[three, :2] - to[three, :2].mean(0))
        start = points[three, :2] + 0.15 * (points[three, :2] - points[three, :2].mean(0))
        low = np.maximum(np.floor(aim.min(0)).astype(int) - 1, 0)
        high = np.ceil(aim.max(0)).astype(int) + 2
        part = out[low[1] : high[1], low[0] : high[0]]
        if part.size == 0:
            continue
        affine = cv2.getAffineTransform(start, (aim - low).astype(np.float32))
        size = part.shape[1], part.shape[0]
        mask = np.zeros(size[::-1], np.uint8)
        cv2.fillConvexPoly(mask, np.rint(aim - low).astype(np.int32), 1)
        laid = cv2.warpAffine(shot.rgb, affine, size, borderMode=cv2.BORDER_REFLECT)
        part[mask > 0] = laid[mask > 0]
    return out, to[:, :2]


def moved_by(rgb: Picture, pixels: float, angle: float = 0.0) -> Picture:
    """Motion blur of so many pixels."""
    steps = max(int(2 * abs(pixels)), 1)
    height, width = rgb.shape[:2]
    out = np.zeros((height, width, 3), np.float32)
    for part in np.linspace(-0.5, 0.5, steps):
        shift = part * pixels * np.array([np.cos(angle), np.sin(angle)])
        to = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        out += cv2.warpAffine(rgb, to, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return (out / steps + 0.5).astype(np.uint8)

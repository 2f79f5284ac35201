"""Turns the head of a picture in depth.

Each point of the head has a depth: that of the landmarks on the face, from there smoothly to the
plane of the ears and the neck, about which the head turns. A picture of it is warped by the
difference between its points' projections before and after. The turn fades out over the neck;
shoulders sway a little with it. The background stands still behind a matte, and what the head
uncovers of it is inpainted.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import Array, Pose, smoothstep
from kolbo_demo.engine.matte import Matte, head_matte
from kolbo_demo.engine.thin_plate import Box, Grid, Map, Pixels, Strip, ThinPlateSpline

NODE_SPACING_MM = 7.0
"""Distance of the nodes at which the motion is evaluated."""
STRIP_ROWS = 64
"""Rows of pixels that are resampled at once: their data fits a processor's cache."""
PIVOT_MM = 105.0
"""Distance of the neck, about which the head turns, below the base of the nose."""
AXIS_MM = 80.0
"""Depth of the neck behind the base of the nose, if the sides of the face are not seen."""
REACH_MM, SHOULDERS_MM = (-180.0, 180.0, -260.0, 165.0), (180.0, 205.0)
"""Left, right, top and bottom of the moving part, from the base of the nose; with shoulders, its
reach to either side and down."""
SWAY_MM_PER_DEGREE = 0.3, 0.3
"""Sideways motion of head and shoulders by yaw and by roll."""
MATTE_MARGIN_MM, MATTE_SOFTNESS_MM = 5.0, 1.5
"""Background that moves with the head around its outline, and the blur of that edge."""
ROLL_WITHOUT_MATTE = 0.4
"""Share of roll without a matte: only roll moves the outline of the head much."""
FILL_SCALE = 0.15
"""Pixels a millimetre at which the background far behind the head is inpainted."""
MIRROR_SMOOTHING_MM = 3.0
"""Blur of the field by which the background beside the head is mirrored into its outline."""
RIM_MM = 30.0
"""Distance from the picture's border in which the motion fades out, where it cuts off the head."""
NECK_MM, MAX_CUT = 40.0, 0.1
"""Height of the neck below the base of the nose, and the share of a side above it that the head may
cover without being cut off."""
INVERSIONS = 3
"""Fixed-point steps from motion at the source's pixels to motion at the result's."""
BROW_MOTION_MM = (20.0, 9.0)
"""Extent of a brow's motion, across and up."""
SQUINT_SHARE, SQUINT_BELOW_MM, SQUINT_MOTION_MM = 0.8, 5.0, (16.0, 7.0)
"""Rise of the cheeks below the lower lids relative to the brows', its centre and extent: half of it
reaches the lids, little the iris."""

_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_INNER = (
    1, 2, 4, 5, 195, 6, 168, 9, 151, 33, 133, 362, 263, 70, 300, 107, 336, 50, 280, 205, 425, 187,
    411, 98, 327, 48, 278, 61, 291, 0, 17, 199, 69, 299, 104, 333, 118, 347,
)  # fmt: skip
_SIDES = (234, 454)


Values = TypeVar("Values", Map, Pixels)


class HeadTurn:
    """Moves the head of a picture."""

    def __init__(
        self,
        picture: Pixels,
        points: Array,
        pose: Pose,
        brows: tuple[tuple[int, ...], ...],
        lower_lids: tuple[tuple[int, ...], ...],
    ) -> None:
        """`points` (478, 3) are landmarks in pixels, `brows` and `lower_lids` those of each eye."""
        self._picture, self._pose = picture, pose
        across = pose.matrix[:2, 0] / np.linalg.norm(pose.matrix[:2, 0])
        self._axes = pose.scale * np.column_stack([across, (-across[1], across[0])])
        self._inverse_axes = np.linalg.inv(self._axes)
        self._origin = pose.shift[:2]
        matte = head_matte(picture, points, pose)
        left, right, top, bottom = REACH_MM
        if matte is not None:
            left, right, bottom = -SHOULDERS_MM[0], *SHOULDERS_MM
        rim = np.array([(x, y) for x in (left, right) for y in (top, bottom)])
        corners = rim @ self._axes.T + self._origin
        height, width = picture.shape[:2]
        low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0)), (width, height)).astype(int)
        self.box: Box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        self.grid = Grid(self.box, pose.scale, NODE_SPACING_MM)
        nodes = self._to_mm(self.grid.nodes)
        self._depth = self._node_depth(points, nodes)
        self._weight = self._node_weight(nodes, matte)
        self._sway = self._sway_weight(nodes) if matte is not None else self._weight
        self._roll = 1.0 if matte is not None else ROLL_WITHOUT_MATTE
        self._arm = np.column_stack([nodes[:, 0], nodes[:, 1] - PIVOT_MM, self._depth])
        raised = np.zeros(len(nodes))
        for lines, below, extent, share in (
            (brows, 0.0, BROW_MOTION_MM, 1.0),
            (lower_lids, SQUINT_BELOW_MM, SQUINT_MOTION_MM, SQUINT_SHARE),
        ):
            for line in lines:
                centre = np.add(self._to_mm(points[list(line), :2].mean(0)[None]), (0.0, below))
                raised += share * np.exp(-(((nodes - centre) / extent) ** 2).sum(1))
        self._raised = np.outer(raised, self._axes[:, 1])
        weight = np.maximum(self._weight, self._sway)
        weight = weight.reshape(self.grid.rows, -1).astype(np.float32)
        self.moving = cv2.dilate(weight, np.ones((3, 3))) > 0
        """Whether the motion reaches the cell of each node."""
        self.edge = self._background = None
        if matte is not None:
            self.edge = _Edge(self._soft_edge(matte), self.grid)
            self._background = self._fill_background(self.edge.opacity)

    def _to_mm(self, pixels: Array) -> Array:
        return (pixels - self._origin) @ self._inverse_axes.T

    def _node_depth(self, points: Array, nodes: Array) -> Array:
        """Depth of each node relative to the neck, mm; negative is nearer."""
        z = (points[:, 2] - self._pose.shift[2]) / self._pose.scale
        axis = max(float(z[list(_SIDES)].mean()), 0.75 * AXIS_MM)
        mm = self._to_mm(points[:, :2])
        oval = mm[list(_OVAL)]
        centre = oval.mean(0)
        known = [*_OVAL, *_INNER]
        # Hair and ears: the head's outline is where it is as deep as the neck.
        ring = np.concatenate([centre + (oval - centre) * by for by in (1.45, 1.9)])
        depth = ThinPlateSpline(
            np.concatenate([mm[known], ring]),
            np.concatenate([np.minimum(z[known] - axis, 0), np.zeros(len(ring))])[:, None],
        )(nodes)[:, 0]
        distance = np.hypot(*((nodes - centre) / (0.5 * np.ptp(oval, axis=0))).T)
        # Beyond the ring a spline goes on; the plane of the neck does not.
        return np.minimum(depth * (1 - smoothstep((distance - 1.3) / 0.5)), 0)

    def _node_weight(self, mm: Array, matte: Matte | None) -> Array:
        """Share of the head's motion at each node, 0-1."""
        down = np.where(mm[:, 1] > -25, (mm[:, 1] + 25) / 100, (mm[:, 1] + 25) / 130)
        distance = np.hypot(mm[:, 0] / 100, down)
        if matte is not None:
            return (1 - smoothstep((distance - 1.1) / 0.65)) * self._rim(matte)
        distance = np.hypot(mm[:, 0] / 92, (mm[:, 1] + 22) / 118)
        return (1 - smoothstep((distance - 0.95) / 0.6)) * self._rim()

    def _sway_weight(self, mm: Array) -> Array:
        """Share of the shoulders' motion at each node, 0-1: at least that of the head's."""
        x, y = np.abs(mm[:, 0]), mm[:, 1]
        shoulders = smoothstep((y - 50) / 60) * (1 - smoothstep((y - 135) / 70))
        shoulders *= 1 - smoothstep((x - 95) / 80)
        width = self._picture.shape[1]
        side = np.minimum(self.grid.nodes[:, 0], width - 1 - self.grid.nodes[:, 0])
        shoulders *= smoothstep(side / (RIM_MM * self._pose.scale))
        return np.maximum(shoulders, self._weight)

    def _rim(self, matte: Matte | None = None) -> Array:
        """0 on the border of the picture, 1 from RIM_MM on; of sides that do not cut the head off,
        by its matte, 1."""
        height, width = self._picture.shape[:2]
        x, y = self.grid.nodes.T
        sides = [x, y, width - 1 - x]
        if matte is None:
            sides.append(height - 1 - y)
        else:
            neck = int(np.clip(self._origin[1] + NECK_MM * self._pose.scale, 1, height))
            borders = (matte[:neck, 0], matte[0], matte[:neck, -1])
            cut = [float(border.mean()) > MAX_CUT for border in borders]
            sides = [side for side, is_cut in zip(sides, cut, strict=True) if is_cut]
        if not sides:
            return np.ones(len(x))
        return smoothstep(np.minimum.reduce(sides) / (RIM_MM * self._pose.scale))

    def _soft_edge(self, matte: Matte) -> Pixels:
        """Opacity 0-255 of head and margin in the box."""
        left, top, right, bottom = self.box
        part = (matte[top:bottom, left:right] > 0.35).astype(np.uint8) * 255
        size = 2 * max(round(MATTE_MARGIN_MM * self._pose.scale), 1) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        wide = cv2.dilate(part, kernel)
        sigma = max(MATTE_SOFTNESS_MM * self._pose.scale, 0.7)
        return np.asarray(cv2.GaussianBlur(wide, (0, 0), sigma), np.uint8)

    def _fill_background(self, edge: Pixels) -> Pixels:
        """The box's pixels without the head: mirrored at its outline where `edge` is opaque, so
        that texture and most lines go on, and inpainted where that shows the head again."""
        left, top, right, bottom = self.box
        part = self._picture[top:bottom, left:right]
        scale = min(FILL_SCALE / self._pose.scale, 1.0)
        size = [max(round(side * scale), 2) for side in part.shape[1::-1]]
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        mask = (cv2.resize(edge, size, interpolation=cv2.INTER_AREA) > 2).astype(np.uint8)
        filled = cv2.inpaint(small, mask, 4, cv2.INPAINT_TELEA)
        filled = np.asarray(cv2.resize(filled, part.shape[1::-1]), np.uint8)
        inside = edge > 0
        if inside.all():
            return filled
        filled = np.where(inside[..., None], filled, part)
        found = cv2.distanceTransformWithLabels(
            inside.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.asarray(found[1], np.intp)
        y, x = np.indices(inside.shape, np.float32)
        own = np.stack([x, y], -1)
        outline = np.zeros((int(nearest.max()) + 1, 2), np.float32)
        outline[nearest[~inside]] = own[~inside]
        sigma = MIRROR_SMOOTHING_MM * self._pose.scale
        across = np.asarray(cv2.GaussianBlur(outline[nearest] - own, (0, 0), sigma), np.float32)
        return np.where(inside[..., None], _sample(filled, own + 2 * across), part)

    def pose(self, angles: Array, shift: Array, brows: float) -> "TurnedHead":
        """The head at pitch, yaw and roll (radians) and shifted by (2,) mm, brows raised (mm) and
        cheeks with them."""
        pitch, yaw, roll = angles
        turn = _rotation(pitch, yaw, roll * self._roll)
        shift = shift.copy()
        if self.edge is not None:
            shift[0] += np.degrees((yaw, roll)) @ SWAY_MM_PER_DEGREE
        motion = self._arm @ (self._axes @ (turn - np.eye(3))[:2]).T * self._weight[:, None]
        motion += np.outer(self._sway, self._axes @ shift)
        motion -= brows * self._raised
        field = motion.reshape(self.grid.rows, -1, 2).astype(np.float32)
        rows, columns = (np.arange(size, dtype=np.float32) for size in field.shape[:2])
        base = np.stack(np.meshgrid(columns, rows), -1)
        offsets = -field
        for _ in range(INVERSIONS):
            offsets = -_sample(field, base + offsets / np.float32(self.grid.cell))
        return TurnedHead(self, offsets)

    def draw_background(self, head: Pixels, turned: "TurnedHead", include: Box) -> None:
        """Draw the background that stands still beside the head into the box's pixels, where the
        head can move and in the box `include`."""
        if self.edge is None or self._background is None:
            return
        for part in turned.edge_strips(include):
            opacity = _sample(self.edge.opacity, turned.source_map[part], origin=self.box[:2])
            if opacity.min() < 255:
                share = opacity.astype(np.float32) / np.float32(255)
                head[part] = cv2.blendLinear(head[part], self._background[part], share, 1 - share)


class TurnedHead:
    """The head in one frame."""

    def __init__(self, turn: HeadTurn, offsets: Map) -> None:
        """`offsets` (rows, columns, 2) from nodes to the same points in the source, pixels."""
        self._turn, self._grid, self._offsets = turn, turn.grid, offsets

    def offset(self, points: Array) -> Array:
        """Offsets (n, 2) from points (n, 2) to the same points in the source, pixels."""
        at = ((points - self._grid.nodes[0]) / self._grid.cell).astype(np.float32)
        return np.asarray(_sample(self._offsets, at[:, None])[:, 0], np.float64)

    @cached_property
    def source_map(self) -> Map:
        """Source position of each pixel of the box, (height, width, 2)."""
        return self._grid.linear_source_map(self._offsets.reshape(-1, 2))

    def strips(self, exclude: Box) -> Iterator[Strip]:
        """Parts of the turn's box that change, without most of the box `exclude`."""
        cells = self._changed.copy()
        cells[self._grid.cells_within(exclude)] = False
        return self._grid.strips(cells, STRIP_ROWS)

    def bounds(self, include: Box) -> Box:
        """Left, top, right, bottom of all that changes, and of the box `include`."""
        cells = self._changed.copy()
        cells[self._grid.cells_around(include)] = True
        return self._grid.bounds(cells)

    def edge_strips(self, include: Box) -> Iterator[Strip]:
        """Parts that can show background beside the head, of those that change and of a box."""
        assert self._turn.edge is not None
        cells = self._changed.copy()
        cells[self._grid.cells_around(include)] = True
        cells &= self._turn.edge.lowest_at(self._offsets) < 255
        return self._grid.strips(cells, STRIP_ROWS)

    @cached_property
    def _changed(self) -> NDArray[np.bool_]:
        """Whether each cell can show the head now, or does in the source; the same in all rows of a
        strip."""
        cells, edge = self._turn.moving, self._turn.edge
        if edge is None:
            return cells
        shown = edge.in_source | (edge.highest_at(self._offsets) > 0)
        return self._grid.joined_rows(cells & shown, STRIP_ROWS)


class _Edge:
    """Opacity 0-255 of a head in its box."""

    def __init__(self, opacity: Pixels, grid: Grid) -> None:
        self.opacity = opacity
        # Of the cell around each pixel, and as far again, since motion stretches cells.
        around = np.ones((2 * grid.cell + 1, 2 * grid.cell + 1), np.uint8)
        self._lowest = np.asarray(cv2.erode(opacity, around), np.uint8)
        self._highest = np.asarray(cv2.dilate(opacity, around), np.uint8)
        nodes = grid.nodes - grid.box[:2]
        self._nodes = nodes.reshape(grid.rows, -1, 2).astype(np.float32)
        self.in_source = self.highest_at(np.zeros_like(self._nodes)) > 0
        """Whether each cell shows the head in the source."""

    def lowest_at(self, offsets: Map) -> Pixels:
        """Least opacity in each cell of the nodes, at `offsets` from there."""
        return _sample(self._lowest, self._nodes + offsets, cv2.INTER_NEAREST)

    def highest_at(self, offsets: Map) -> Pixels:
        """Largest opacity, likewise."""
        return _sample(self._highest, self._nodes + offsets, cv2.INTER_NEAREST)


def _sample(
    values: Values,
    at: Map,
    interpolation: int = cv2.INTER_LINEAR,
    origin: tuple[int, int] = (0, 0),
) -> Values:
    """Values at positions (height, width, 2), of which `origin` is that of the first value."""
    # OpenCV 5.0 misreads one map of x and y beside an empty second map here.
    x, y = at[..., 0] - np.float32(origin[0]), at[..., 1] - np.float32(origin[1])
    border = cv2.BORDER_REPLICATE
    return cv2.remap(values, x, y, interpolation, borderMode=border)  # pyright: ignore[reportReturnType]


def _rotation(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """Rotation (3, 3) of x right, y down, z away: positive pitch lowers the chin, yaw turns to the
    right of the picture, roll is clockwise."""
    (cp, cy, cr), (sp, sy, sr) = np.cos((pitch, yaw, roll)), np.sin((pitch, yaw, roll))
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x

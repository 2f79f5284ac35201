"""Draws the frames of a render: animates a still, or replaces the lips of a clip."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from kolbo_demo.engine import motion_blur
from kolbo_demo.engine.exemplar_blend import (
    blank_interior,
    blend_mix,
    blur_lips,
    blur_lower_lip,
    covers_interior,
)
from kolbo_demo.engine.exemplar_plan import Mix, MixPlan
from kolbo_demo.engine.face_reid import Person
from kolbo_demo.engine.head_pose import RIGID_LANDMARKS, Array, Pose, smoothstep
from kolbo_demo.engine.head_turn import HeadTurn
from kolbo_demo.engine.idle_motion import EYES, Eyes, IdleMotion
from kolbo_demo.engine.landmarks import FaceLandmarker, FaceLandmarks
from kolbo_demo.engine.lip_inpaint import inpaint_opening, remove_smile_creases
from kolbo_demo.engine.mouth_curves import MouthCurves
from kolbo_demo.engine.mouth_exemplars import skin_tones
from kolbo_demo.engine.mouth_interior import interior_painter
from kolbo_demo.engine.mouth_shape import MouthShape, corner_inset
from kolbo_demo.engine.mouth_warp import CreaseRemoval, HeadOffset, MouthWarp
from kolbo_demo.engine.prefetch import prefetch, prefetch_depth
from kolbo_demo.engine.speaker import Speaker
from kolbo_demo.engine.speaker_tracking import FACE_NOT_VISIBLE, track_person
from kolbo_demo.engine.thin_plate import Box, Picture, Pixels, UpsampledPicture, resample
from kolbo_demo.engine.tracking_window import LOOKAHEAD_FRAMES, tracking_windows
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.yuv import Planes

CREASE_FADE_MM = 7.0
"""Inward motion of the mouth corners at which smile creases are removed completely."""
CREASE_REACH_MM = 60.0
"""Distance from the creases within which the picture without them is read: twice the margin of the
warp, for the motion of head and skin."""
WARM_UP_FRAMES = LOOKAHEAD_FRAMES + 4
"""Frames of a clip that are tracked before the first that is drawn, so that landmarks do not depend
on where tracking began. More frames change nothing."""
SHUTTER, LOWER_LIP_SHARE, MIN_BLURRED_MM = 0.5, 0.78, 1.0
"""Exposure as a share of a frame, the lower lip's share of an opening's speed, and the opening
below which lips stay sharp, as they do where they meet."""


class _MouthRenderer:
    """Draws a speaker's mouth."""

    def __init__(self, speaker: Speaker) -> None:
        self._warp, self._speaker = MouthWarp(speaker.head), speaker

    def bounds(self, pose: Pose, size: tuple[int, ...], head_offset: HeadOffset) -> Box:
        """See `MouthWarp.bounds`."""
        return self._warp.bounds(pose, size, head_offset)

    def draw(
        self,
        onto: Pixels,
        rgb: Picture,
        source: Array,
        pose: Pose,
        shape: MouthShape,
        head_offset: HeadOffset | None = None,
        strength: float = 1.0,
        mix: Mix | None = None,
        creases: CreaseRemoval | None = None,
        motion: Array | None = None,
        lip_speed: float = 0.0,
    ) -> Box:
        """Draw the mouth of `rgb` in `shape` onto a picture, with opacity `strength`. Returns left,
        top, right, bottom of the drawn pixels.

        `source`, `head_offset` and `creases` as in `MouthWarp`; `mix` are the exemplars to show,
        `motion` (2,) pixels is the face's motion a frame, `lip_speed` that of the opening in mm.
        """
        layers = self._warp(rgb, source, pose, shape, head_offset, creases)
        teeth, exemplars = self._speaker.teeth, self._speaker.exemplars
        paint = interior_painter(self._speaker.palette, shape, layers.opening, teeth)
        covered = mix and covers_interior(mix)
        edge = max(1.0, 2.2 * self._speaker.palette.blur)
        drawn = layers.compose(blank_interior if covered else paint, edge)
        if mix and exemplars is not None:
            assert not isinstance(rgb, UpsampledPicture), "a still has no exemplars"
            blend_mix(exemplars, mix, layers, drawn, skin_tones(rgb, source, pose.scale))
        if motion is not None and not isinstance(rgb, UpsampledPicture):
            blur = motion_blur.estimate(rgb, pose, motion, self._speaker.structure_tensor)
            if np.abs(blur).max() > 1:
                blur_lips(layers, drawn, blur)
        lip_motion = lip_speed * LOWER_LIP_SHARE * SHUTTER * pose.matrix[:2, 1]
        if np.abs(lip_motion).max() > 1 and not self._speaker.palette.dentition.drawn:
            blur_lower_lip(layers, drawn, lip_motion)
        left, top, right, bottom = layers.box
        below = onto[top:bottom, left:right]
        if strength < 1:
            drawn = cv2.addWeighted(drawn, strength, below, 1 - strength, 0)
        below[:] = drawn
        return layers.box


def _lip_speed(curves: MouthCurves, frame: int) -> float:
    """Millimetres a frame by which lips open; 0 where they meet."""
    near = curves.aperture[max(frame - 1, 0) : frame + 2]
    if curves.aperture[frame] < MIN_BLURRED_MM or len(near) < 3:
        return 0.0
    return float(near[2] - near[0]) / 2


class StillFrame(NamedTuple):
    """A frame of a still, and the box that contains all changes."""

    pixels: Pixels
    changed: Box


def animate_still(
    picture: Pixels,
    points: Array,
    speaker: Speaker,
    curves: MouthCurves,
    idle: IdleMotion,
    frames: range,
) -> Generator[StillFrame]:
    """Yield the given frames of a still that speaks. Head, lids and mouth are resampled once.

    `points` (478, 3) are the picture's landmarks in pixels.
    """
    pose = Pose.from_landmarks(points.astype(np.float32))
    mouth = _MouthRenderer(speaker)
    _, lower_lids, brows = zip(*EYES, strict=True)
    head_turn = HeadTurn(picture, points, pose, brows, lower_lids)
    inpainted = inpaint_opening(picture, points, pose)
    upsampled = UpsampledPicture(inpainted, head_turn.box)
    creaseless, boxes = remove_smile_creases(inpainted, points, pose)
    skin = UpsampledPicture(creaseless, _around(boxes, CREASE_REACH_MM * pose.scale, head_turn.box))
    source_mm = pose.unproject(points)
    eyes = Eyes(upsampled, points, pose)
    left, top, right, bottom = head_turn.box
    for frame in frames:
        brow = 0.0 if eyes.rims else float(idle.brows[frame])
        turned = head_turn.pose(idle.angles(frame), idle.shift[frame], brow)
        out = picture.copy()
        head = out[top:bottom, left:right]
        source_map = turned.source_map
        mouth_box = mouth.bounds(pose, picture.shape, turned.offset)
        for strip in turned.strips(exclude=mouth_box):
            head[strip] = resample(upsampled, source_map[strip])
        shape = MouthShape.at(curves, frame)
        inset = corner_inset(speaker.head, source_mm, shape)
        mouth.draw(
            out, upsampled, points, pose, shape,
            head_offset=turned.offset, lip_speed=_lip_speed(curves, frame),
            creases=CreaseRemoval(skin, boxes, float(smoothstep(np.array(inset / CREASE_FADE_MM)))),
        )  # fmt: skip
        head_turn.draw_background(head, turned, mouth_box)
        # Last, because the mouth's box can overlap an eye of a tilted head.
        eyes.draw(head, source_map, float(idle.lids[frame]), idle.gaze(frame))
        yield StillFrame(out, turned.bounds(mouth_box))


def _around(boxes: list[Box], margin: float, within: Box) -> Box:
    """A box around all of `boxes` and a margin, inside another; that one if there are none."""
    if not boxes:
        return within
    corners = np.array(boxes)
    low = np.maximum(corners[:, :2].min(0) - margin, within[:2]).astype(int)
    high = np.minimum(corners[:, 2:].max(0) + margin, within[2:]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


class CompositedFrame(NamedTuple):
    """A clip's frame before and after, its planes in the file (see `yuv`; None if they cannot be
    copied), and the boxes that contain all changes."""

    before: Pixels
    after: Pixels
    planes: Planes | None
    changed: list[Box]


def animate_clip(
    clip: Clip,
    person: Person,
    known_faces: Mapping[int, FaceLandmarks],
    speaker: Speaker,
    curves: MouthCurves,
    mixes: MixPlan,
    frames: range,
    on_skipped: Callable[[int, str], None],
    threaded: bool = True,
) -> Generator[CompositedFrame]:
    """Yield the given frames of a clip with replaced lips.

    `person` is tracked from WARM_UP_FRAMES before the first frame on. `known_faces` are faces by
    the clip's frame numbers, at least one. `on_skipped` gets the number of each unchanged frame and
    the reason. `threaded` tracks in a thread of its own.
    """
    mouth = _MouthRenderer(speaker)
    start = max(frames.start - WARM_UP_FRAMES, 0)
    stop = min(frames.stop + LOOKAHEAD_FRAMES, len(curves))
    numbers = [clip.source_frame(frame) for frame in range(start, stop)]
    anchor = known_faces[min(known_faces, key=lambda number: abs(number - numbers[0]))]
    decoded_planes = deque[Planes | None]()

    def decoded() -> Iterator[tuple[int, Pixels]]:
        played = clip.frames_and_planes(stop - start, start)
        for number, (rgb, planes) in zip(numbers, played, strict=True):
            decoded_planes.append(planes)
            yield number, rgb

    sightings = track_person(decoded(), FaceLandmarker(), person, anchor, known_faces)
    if threaded:
        sightings = prefetch(sightings, prefetch_depth(3 * clip.width * clip.height))
    windows = tracking_windows(sightings, speaker.head.points[list(RIGID_LANDMARKS)])
    for index, (rgb, window) in enumerate(windows, start):
        planes = decoded_planes.popleft()
        if index < frames.start:
            continue
        if index == frames.stop:
            return
        strength, reason = window.mouth_strength()
        if reason is not None or window.face is None:
            on_skipped(index, reason or FACE_NOT_VISIBLE)
            yield CompositedFrame(rgb, rgb, planes, [])
            continue
        out = rgb.copy()
        box = mouth.draw(
            out, rgb, window.face.points.astype(np.float64), window.smoothed_pose(),
            MouthShape.at(curves, index), strength=strength, mix=mixes[index],
            motion=window.motion(), lip_speed=_lip_speed(curves, index),
        )  # fmt: skip
        yield CompositedFrame(rgb, out, planes, [box])

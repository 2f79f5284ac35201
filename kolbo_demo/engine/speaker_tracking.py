"""The one who speaks, picture after picture: the person is followed, not a place in the picture.

A face that was followed must still look like the person's, or it is looked for again among all
faces that are there: after a cut, after somebody crossed the picture, when the speaker is back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kolbo_demo.engine.face_detector import TURNS
from kolbo_demo.engine.face_reid import FOLLOWED, SAME, Look, Person
from kolbo_demo.engine.head_pose import LOWER_OUTER, UPPER_OUTER, Pose
from kolbo_demo.engine.landmarks import NO_FACE, Face, FaceFinder, Pixels, speaker
from kolbo_demo.engine.prefetch import prefetch, prefetch_depth
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.demux import THREADS
from kolbo_demo.media.probe import MediaError
from kolbo_demo.process.child import cores

UNSEEN = "the face is not seen"
SOMEBODY_ELSE = "somebody else is seen"
SMALL = "the face is too small"
TURNED = "the head is turned away"
OUTSIDE = "the mouth is outside the picture"
COVERED = "the mouth is hidden"
"""Why lips are left as they are, as a sentence goes on."""

SMALLEST = 30.0
"""Pixels of a face (its longer side) whose lips can be seen to move."""
FURTHEST = 52.0
"""Degrees by which a head may be turned."""
CUT = 32.0
"""Levels (of 255) by which pictures of two shots differ, in the mean over a few pixels."""
TILES_EVERY = 8
"""Frames after which small or turned faces are looked for again in a picture that seems to show
none."""
OTHERS_EVERY = 8
"""Looks after which the other faces are looked at, too."""
KNOWN = 0.95
"""Likeness from which on a face shows nothing new of the person."""
LEARN_BYTES = 100_000_000
"""Of the faces' pixels that are kept to learn from."""

Point = tuple[float, float]


class Sighting(NamedTuple):
    """One picture: the person's face if it is there, why its lips cannot speak (None: they can),
    and whether a new shot begins."""

    rgb: Pixels
    face: Face | None
    reason: str | None
    cut: bool


@dataclass(frozen=True)
class View:
    """What was seen of the speaker in one frame that was looked at."""

    whole: Face
    """Landmarks in the whole picture."""
    look: Look
    part: tuple[Pixels, Face] | None
    """The face's part of the picture and the landmarks in it, where it is to be learnt from."""
    reason: str | None
    """Why its lips could not speak."""

    @classmethod
    def of(cls, rgb: Pixels, face: Face, seen: Look, kept: bool) -> "View":
        """`kept`: with its pixels."""
        return cls(face, seen, _cropped(rgb, face) if kept else None, _reason(rgb, face))

    def judged(self, person: Person) -> "View":
        """With what the whole clip tells of the person's mouth."""
        if self.reason is None and person.hides(self.look):
            return replace(self, reason=COVERED)
        return self


def tracked(
    frames: Iterable[tuple[int, Pixels]],
    finder: FaceFinder,
    person: Person,
    before: Face,
    known: Mapping[int, Face],
) -> Iterator[Sighting]:
    """The person in each of a clip's frames, given with their numbers in the clip.

    `before` is where the face was or will be, `known` where it is in frames looked at before.
    """
    last: Face | None = before
    seen = before
    thumb: Pixels | None = None
    for number, rgb in frames:
        small = _thumb(rgb)
        cut = thumb is not None and _differ(small, thumb) > CUT
        thumb = small
        face, look, missing = known.get(number), None, UNSEEN
        if face is None and last is not None:
            face = finder.follow(rgb, last)
            look = None if face is None else person.look(rgb, face)
            if look is not None and person.likeness(look) < (SAME if cut else FOLLOWED):
                face, missing = None, SOMEBODY_ELSE
        if face is None:
            tiled = cut or number % TILES_EVERY == 0
            face, look, others = _found(rgb, finder, person, seen, tiled)
            missing = SOMEBODY_ELSE if others else UNSEEN
        last, seen = face, face or seen
        if face is None:
            yield Sighting(rgb, None, missing, cut)
        else:
            reason = _reason(rgb, face)
            if reason is None and person.hides(look or person.look(rgb, face)):
                reason = COVERED
            yield Sighting(rgb, face, reason, cut)


def _found(
    rgb: Pixels, finder: FaceFinder, person: Person, seen: Face, tiled: bool
) -> tuple[Face | None, Look | None, list[tuple[Face, Look]]]:
    """The person's face among all that are found, and the others."""
    near = (float(seen.centre[0]), float(seen.centre[1]))
    faces = [(face, person.look(rgb, face)) for face in finder.find(rgb, near, tiled, (seen.turn,))]
    faces.sort(key=lambda one: -person.likeness(one[1]))
    if faces and person.likeness(faces[0][1]) >= SAME:
        return *faces[0], faces[1:]
    return None, None, faces


def _reason(rgb: Pixels, face: Face) -> str | None:
    """Why a face's lips cannot speak, by where it is and how it stands."""
    if face.size < SMALLEST:
        return SMALL
    forward = Pose.of(face.points).matrix[:, 2]
    if forward[2] < np.cos(np.radians(FURTHEST)) * np.linalg.norm(forward):
        return TURNED
    lips = face.points[[*UPPER_OUTER, *LOWER_OUTER], :2]
    if lips.min() < 0 or (lips >= rgb.shape[1::-1]).any():
        return OUTSIDE
    return None


def _thumb(rgb: Pixels) -> Pixels:
    height, width = rgb.shape[:2]
    return rgb[height // 24 :: max(height // 12, 1), width // 24 :: max(width // 12, 1)].copy()


def _differ(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def look(
    clip: Clip,
    numbers: list[int],
    learnt_from: Iterable[int],
    point: Point | None,
    looked_at: Callable[[], None],
) -> tuple[Person, dict[int, View]]:
    """Who speaks, and where they are in some of a clip's frames: those of `numbers` (ascending)
    that show them. Pixels are kept of those in `learnt_from`.

    `point` (0-1) chooses among the faces of the first frame that has one, else the largest does.
    `looked_at` is called for each frame. MediaError where none has a face.
    """
    at = None if point is None else (point[0] * clip.width, point[1] * clip.height)
    finder, wanted = FaceFinder(min(cores(), THREADS)), set(learnt_from)
    person: Person | None = None
    last: Face | None = None
    views, doubtful = dict[int, View](), dict[int, View]()
    others = list[Look]()
    pictures = prefetch(clip.frames_at(numbers), prefetch_depth(3 * clip.width * clip.height))
    with closing(pictures):
        for count, (number, rgb) in enumerate(zip(numbers, pictures, strict=False)):
            looked_at()
            rest = list[Look]()
            if person is None or last is None:
                faces = finder.find(rgb, near=at, turns=turns_at(count))
                face = speaker(faces, at)
                if face is None:
                    continue
                person = Person.first(rgb, face, [other for other in faces if other is not face])
                wanted = set(sorted(wanted)[:: _stride(face, len(wanted))])
                seen = person.look(rgb, face)
            else:
                face = finder.follow(rgb, last)
                seen = None if face is None else person.look(rgb, face)
                if face is None or seen is None or person.likeness(seen) < SAME:
                    face, seen, found = _found(rgb, finder, person, last, count % TILES_EVERY == 0)
                    if face is None or seen is None:
                        if found:  # perhaps the person, once more of them is known
                            doubtful[number] = View.of(rgb, *found[0], number in wanted)
                        continue
                    rest = [other for _, other in found]
                elif count % OTHERS_EVERY == 0:
                    rest = [person.look(rgb, other) for other in finder.beside(rgb, face)]
            views[number] = View.of(rgb, face, seen, number in wanted)
            last = face
            others += rest
            if rest or person.likeness(seen) < KNOWN:
                person = person.joined_by([view.look for view in views.values()], others)
                others.clear()
    if person is None:
        raise MediaError(NO_FACE.format(what="clip"))
    views |= {n: view for n, view in doubtful.items() if person.likeness(view.look) >= SAME}
    person = person.joined_by([view.look for view in views.values()])
    return person, {number: views[number].judged(person) for number in sorted(views)}


def turns_at(count: int) -> tuple[int, ...]:
    """Quarter turns in which to look for faces, after so many looks that have found none."""
    return TURNS if count % TILES_EVERY == 0 else TURNS[:1]


def _stride(face: Face, count: int) -> int:
    """Of so many pictures of a face, each how manieth may be kept."""
    return -(-count * 5 * round(face.size) ** 2 // LEARN_BYTES)


def _cropped(rgb: Pixels, face: Face) -> tuple[Pixels, Face]:
    """Only the face's part of a picture: what is kept of a clip must stay small."""
    left, top, right, bottom = face.box
    spare = 0.1 * face.size
    x, y = max(int(left - spare), 0), max(int(top - spare), 0)
    part = rgb[y : int(bottom + spare) + 1, x : int(right + spare) + 1].copy()
    return part, Face(face.points - np.array([x, y, 0], np.float32), face.presence)

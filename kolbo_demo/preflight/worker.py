"""The child that opens visitors' files before they are sent."""

import base64
import io
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.head_pose import Pose
from kolbo_demo.engine.landmarks import Face as Landmarks
from kolbo_demo.engine.landmarks import FaceFinder, speaker, track
from kolbo_demo.engine.occlusion import mouth_visible
from kolbo_demo.engine.render_plan import read_still
from kolbo_demo.engine.speaker_tracking import turns_at
from kolbo_demo.engine.speech_features import HOP, hear, loudness, threshold
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.watermark import mark, stamp
from kolbo_demo.media import probe
from kolbo_demo.media.demux import MediaError
from kolbo_demo.preflight import trim
from kolbo_demo.preflight.types import Face, Source, Voice
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import cores, parent
from kolbo_demo.process.confinement import confine, confine_picture, lower_priority

PREVIEW_PIXELS = 960
"""Longer side of the picture that is shown."""
THUMBNAIL_PIXELS = 120
MOUTHS = 6
"""Of how many faces of a picture the mouth is looked at."""
LOOKS = 48
"""At how many moments of a clip a face is looked for, at most two a second."""
LOOKING_SECONDS = 8.0
"""A long clip with few places to search to takes longer: what was seen until then is told."""
FOLLOW_SECONDS, FOLLOW_STEPS, FOLLOW_PIXELS = 0.2, 120, 480
"""How a face is followed: at most so far apart, so many pictures, so large."""
HEARD_SECONDS = 90
"""Speech is looked for in so much of a voice: none in that is none."""
LEAST_RATE, LEAST_SOUNDS = 2.0, 3
"""Phonemes a second of sound, and different ones, from which it is speech. Speech of six languages
has 9 to 13 and 23 or more; music, noise and hum at most 0.5 and 2."""
LONG_SILENCE = 3.0
"""Seconds."""
FULL_SCALE = 0.999
REQUESTS = 20
"""A child that is asked so often about one file is ended where each took all of its time."""


_TOO_MUCH = "The file takes too much memory to be read: scale it down and try again."


class _Looker:
    """Answers, one request after another."""

    def __init__(self) -> None:
        try:
            self._finder = FaceFinder()
        except (ImportError, OSError):  # where the engine cannot run, the cloud still can
            self._finder = None

    def source(self, path: str) -> dict[str, Any]:
        if size := probe.picture_size(Path(path)):
            confine_picture(size[0] * size[1])
        found = probe.inspect_source(Path(path))
        if found.kind == "image":
            rgb, notes = read_still(Path(path))
            shrunk = (found.width or 0) / rgb.shape[1]
        else:
            (rgb, notes), shrunk = _frame(path, 0.0), 1.0
        shown = Source(
            found.kind if found.kind == "image" else "video",
            found.format,
            found.bytes,
            found.width or 0,
            found.height or 0,
            found.duration,
            found.fps,
            found.variable,
            found.has_audio,
            list(notes),
        )
        return {"source": asdict(shown), "picture": self._picture(rgb, 0.0, shrunk)}

    def picture(self, path: str, at: float) -> dict[str, Any]:
        return self._picture(_frame(path, at)[0], at)

    def _picture(self, rgb: np.ndarray, at: float, shrunk: float = 1.0) -> dict[str, Any]:
        """`shrunk`: how many times wider the picture is in its file."""
        faces = None
        if self._finder is not None:  # else nobody can look
            rgb = np.ascontiguousarray(rgb)
            found = self._finder.find(rgb)
            hidden = [not mouth_visible(self._finder, rgb, face) for face in found[:MOUTHS]]
            hidden += [False] * len(found[MOUTHS:])
            faces = [
                replace(face, scale=face.scale * shrunk, hidden=unseen)
                for face, unseen in zip((_face(one, rgb) for one in found), hidden, strict=True)
            ]
            faces = [asdict(face) for face in sorted(faces, key=lambda face: face.point)]
        return {"at": at, "jpeg": _jpeg(rgb, PREVIEW_PIXELS), "faces": faces}

    def stretches(self, path: str) -> dict[str, Any]:
        deadline = time.monotonic() + LOOKING_SECONDS
        with Clip(Path(path)) as clip:
            count = min(max(math.ceil(clip.duration * 2), 2), LOOKS, clip.frame_count)
            numbers = np.unique(np.linspace(0, clip.frame_count - 1, count).round().astype(int))
            half = clip.duration / count / 2
            found, turn = list[dict[str, Any]](), None
            before: bool | None = None
            until = clip.duration
            pictures = clip.frames_at(numbers.tolist())
            for count, (number, rgb) in enumerate(zip(numbers, pictures, strict=False)):
                at = float(number / clip.fps)
                if time.monotonic() > deadline:
                    until = at
                    break
                if self._finder is None:
                    break
                turns = turns_at(count) if turn is None else (turn,)
                faces = self._finder.find(np.ascontiguousarray(rgb), turns=turns)
                turn = faces[0].turn if faces else turn
                side = bool(faces) and all(_face(face, rgb).sideways for face in faces)
                if faces and not side:
                    before = None
                    continue
                end = min(at + half, clip.duration)
                if before == side:
                    found[-1]["end"] = end
                else:
                    thumbnail = _jpeg(rgb, THUMBNAIL_PIXELS)
                    start = max(at - half, 0.0)
                    found.append({"start": start, "end": end, "side": side, "jpeg": thumbnail})
                before = side
        return {"stretches": found, "until": until}

    def follow(
        self, path: str, point: tuple[float, float], at: float, start: float
    ) -> dict[str, Any]:
        with Clip(Path(path)) as clip:
            last = clip.frame_count - 1
            first, end = (min(max(round(s * clip.fps), 0), last) for s in (start, at))
            steps = math.ceil(abs(at - start) / FOLLOW_SECONDS) + 2
            numbers = np.linspace(first, end, min(steps, FOLLOW_STEPS)).round().astype(int)
            frames = [_shrunk(rgb) for rgb in clip.frames_at(np.unique(numbers).tolist())]
        if at > start:
            frames.reverse()
        height, width = frames[0].shape[:2]
        here = (point[0] * width, point[1] * height)
        if self._finder is None:
            return {"point": point}
        if speaker(self._finder.find(frames[0], near=here), here) is None:
            return {"point": point}
        last = here
        for _, face in track(frames, self._finder, here):
            if face is not None:
                last = (float(face.centre[0]), float(face.centre[1]))
        return {"point": (last[0] / width, last[1] / height)}

    def voice(self, path: str) -> dict[str, Any]:
        found = probe.inspect_audio(Path(path))
        wave = load_voice(Path(path))
        level = loudness(wave)
        return asdict(
            Voice(
                found.format,
                found.bytes,
                len(wave) / 16000,
                _is_speech(wave[: HEARD_SECONDS * 16000]),
                round(float(level.max()), 1),
                float(np.mean(np.abs(wave) >= FULL_SCALE)) if len(wave) else 0.0,
                _silences(level),
                list(found.notes),
            )
        )


def _frame(path: str, at: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """What a clip shows at `at` seconds, and its notes."""
    with Clip(Path(path)) as clip:
        number = min(max(round(at * clip.fps), 0), clip.frame_count - 1)
        return next(clip.frames_at([number])), clip.notes


def _is_speech(wave: np.ndarray) -> bool | None:
    try:
        heard = hear(wave)
    except (ImportError, OSError):
        return None
    loud = float((heard.level > threshold(heard.level)).sum()) * HOP
    rate = len(heard.sounds) / max(loud, 0.1)
    return rate >= LEAST_RATE and len({sound.symbol for sound in heard.sounds}) >= LEAST_SOUNDS


def _silences(level: np.ndarray) -> list[tuple[float, float]]:
    edges = np.diff(np.concatenate([[0], (level <= threshold(level)).astype(int), [0]]))
    spans = zip(np.flatnonzero(edges == 1) * HOP, np.flatnonzero(edges == -1) * HOP, strict=True)
    return [(float(a), float(b)) for a, b in spans if b - a >= LONG_SILENCE]


def _face(found: Landmarks, rgb: np.ndarray) -> Face:
    height, width = rgb.shape[:2]
    left, top, right, bottom = found.box
    pose = Pose.of(found.points)
    across = pose.matrix[:, 0]
    yaw = math.degrees(math.atan2(float(across[2]), float(np.hypot(across[0], across[1]))))
    return Face(
        (left / width, top / height, (right - left) / width, (bottom - top) / height),
        pose.scale,
        yaw,
    )


def _jpeg(rgb: np.ndarray, longer: int) -> str:
    picture = Image.fromarray(rgb)
    picture.thumbnail((longer, longer))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return base64.b64encode(data.getvalue()).decode()


def _shrunk(rgb: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(rgb)
    picture.thumbnail((FOLLOW_PIXELS, FOLLOW_PIXELS))
    return np.asarray(picture)


def _mark(path: str, output: str, seen: bool) -> dict[str, Any]:
    (mark if seen else stamp)(Path(path), Path(output))
    return {}


def main() -> None:
    """Load what finds faces, then work or fork those that do."""
    lower_priority()
    looker = _Looker()
    fork_server.serve(lambda: _work(looker))


def _work(looker: _Looker) -> None:
    """Answer until the parent is gone."""
    answers = {
        "source": looker.source,
        "picture": looker.picture,
        "stretches": looker.stretches,
        "follow": looker.follow,
        "voice": looker.voice,
        "cut_source": trim.cut_source,
        "cut_voice": trim.cut_voice,
        "mark": _mark,
    }
    with parent() as (requests, tell):
        for request in requests:
            seconds = cores() * request.pop("seconds")
            # The same child may be asked about its file again, and idles in between.
            confine(seconds, request.pop("memory"), request.pop("output_bytes"), REQUESTS * seconds)
            try:
                tell(answer=answers[request.pop("what")](**request))
            except MediaError as error:
                tell(problem=str(error))
            except MemoryError:
                tell(problem=_TOO_MUCH)


if __name__ == "__main__":
    main()

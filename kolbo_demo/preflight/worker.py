"""The child process of `Inspector`: opens one untrusted file and answers requests about it."""

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
from kolbo_demo.engine.landmarks import (
    FaceLandmarker,
    FaceLandmarks,
    choose_face,
    track_face,
)
from kolbo_demo.engine.occlusion import is_mouth_visible
from kolbo_demo.engine.speaker_tracking import search_turns
from kolbo_demo.engine.speech_features import (
    HOP_SECONDS,
    extract_voice_features,
    loudness,
    silence_threshold,
)
from kolbo_demo.engine.still_picture import load_still
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.watermark import add_watermark, tag_metadata
from kolbo_demo.media import probe
from kolbo_demo.media.demux import MediaError
from kolbo_demo.preflight import trim
from kolbo_demo.preflight.types import Face, Source, Voice
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import cpu_count, parent_connection
from kolbo_demo.process.confinement import (
    limit_resources,
    limit_resources_for_picture,
    lower_priority,
)

PREVIEW_PIXELS = 960
"""Longer side of a preview."""
THUMBNAIL_PIXELS = 120
MAX_MOUTHS = 6
"""Faces of a picture whose mouth is checked for occlusion."""
MAX_SAMPLES = 48
"""Frames of a clip in which faces are detected, at most two per second."""
SCAN_TIMEOUT_SECONDS = 8.0
"""A clip with few keyframes takes longer: then only its first part is reported."""
TRACK_INTERVAL_SECONDS, TRACK_MAX_FRAMES, TRACK_PIXELS = 0.2, 120, 480
"""Face tracking: interval between frames, their number and their longer side, all at most."""
SPEECH_SEARCH_SECONDS = 90
"""Speech is detected in the first part of a voice only."""
MIN_PHONEME_RATE, MIN_DISTINCT_PHONEMES = 2.0, 3
"""Phonemes per second of sound, and distinct phonemes, of speech. Speech of six languages has 9 to
13 and 23 or more; music, noise and hum at most 0.5 and 2."""
LONG_SILENCE_SECONDS = 3.0
FULL_SCALE_LEVEL = 0.999
MAX_REQUESTS_PER_CHILD = 20
"""A child may use the processor time of so many requests."""

_OUT_OF_MEMORY = "The file takes too much memory to be read: scale it down and try again."


class _InspectionHandlers:
    """One method for each inspection; returns its reply as JSON."""

    def __init__(self) -> None:
        try:
            self._finder = FaceLandmarker()
        except (ImportError, OSError):  # without the engine, the cloud can still be used
            self._finder = None

    def source(self, path: str) -> dict[str, Any]:
        if size := probe.picture_size(Path(path)):
            limit_resources_for_picture(size[0] * size[1])
        info = probe.inspect_source(Path(path))
        if info.kind == "image":
            rgb, notes = load_still(Path(path))
            scale = (info.width or 0) / rgb.shape[1]
        else:
            (rgb, notes), scale = _read_frame(path, 0.0), 1.0
        source = Source(
            info.kind if info.kind == "image" else "video",
            info.format,
            info.bytes,
            info.width or 0,
            info.height or 0,
            info.duration,
            info.fps,
            info.variable_frame_rate,
            info.has_audio,
            list(notes),
        )
        return {"source": asdict(source), "preview": self._preview(rgb, 0.0, scale)}

    def frame(self, path: str, at: float) -> dict[str, Any]:
        return self._preview(_read_frame(path, at)[0], at)

    def _preview(self, rgb: np.ndarray, at: float, scale: float = 1.0) -> dict[str, Any]:
        """`scale` is the width in the file divided by the width of `rgb`."""
        faces = None
        if self._finder is not None:
            rgb = np.ascontiguousarray(rgb)
            found = self._finder.detect(rgb)
            hidden = [not is_mouth_visible(self._finder, rgb, face) for face in found[:MAX_MOUTHS]]
            hidden += [False] * len(found[MAX_MOUTHS:])
            faces = [
                replace(face, scale=face.scale * scale, hidden=unseen)
                for face, unseen in zip((_face(one, rgb) for one in found), hidden, strict=True)
            ]
            faces = [asdict(face) for face in sorted(faces, key=lambda face: face.point)]
        return {"at": at, "jpeg": _jpeg(rgb, PREVIEW_PIXELS), "faces": faces}

    def faceless_spans(self, path: str) -> dict[str, Any]:
        deadline = time.monotonic() + SCAN_TIMEOUT_SECONDS
        with Clip(Path(path)) as clip:
            count = min(max(math.ceil(clip.duration * 2), 2), MAX_SAMPLES, clip.frame_count)
            numbers = np.unique(np.linspace(0, clip.frame_count - 1, count).round().astype(int))
            half_interval = clip.duration / count / 2
            spans, turn = list[dict[str, Any]](), None
            previous: bool | None = None
            until = clip.duration
            pictures = clip.frames_at(numbers.tolist())
            for count, (number, rgb) in enumerate(zip(numbers, pictures, strict=False)):
                at = float(number / clip.fps)
                if time.monotonic() > deadline:
                    until = at
                    break
                if self._finder is None:
                    break
                turns = search_turns(count) if turn is None else (turn,)
                faces = self._finder.detect(np.ascontiguousarray(rgb), turns=turns)
                turn = faces[0].quarter_turns if faces else turn
                side = bool(faces) and all(_face(face, rgb).sideways for face in faces)
                if faces and not side:
                    previous = None
                    continue
                end = min(at + half_interval, clip.duration)
                if previous == side:
                    spans[-1]["end"] = end
                else:
                    thumbnail = _jpeg(rgb, THUMBNAIL_PIXELS)
                    start = max(at - half_interval, 0.0)
                    spans.append({"start": start, "end": end, "side": side, "jpeg": thumbnail})
                previous = side
        return {"spans": spans, "until": until}

    def track_face(
        self, path: str, point: tuple[float, float], at: float, start: float
    ) -> dict[str, Any]:
        with Clip(Path(path)) as clip:
            last = clip.frame_count - 1
            first, end = (min(max(round(s * clip.fps), 0), last) for s in (start, at))
            steps = math.ceil(abs(at - start) / TRACK_INTERVAL_SECONDS) + 2
            numbers = np.linspace(first, end, min(steps, TRACK_MAX_FRAMES)).round().astype(int)
            frames = [_downscale(rgb) for rgb in clip.frames_at(np.unique(numbers).tolist())]
        if at > start:
            frames.reverse()
        height, width = frames[0].shape[:2]
        here = (point[0] * width, point[1] * height)
        if self._finder is None:
            return {"point": point}
        if choose_face(self._finder.detect(frames[0], near=here), here) is None:
            return {"point": point}
        last = here
        for _, face in track_face(frames, self._finder, here):
            if face is not None:
                last = (float(face.centre[0]), float(face.centre[1]))
        return {"point": (last[0] / width, last[1] / height)}

    def voice(self, path: str) -> dict[str, Any]:
        info = probe.inspect_audio(Path(path))
        wave = load_voice(Path(path))
        level = loudness(wave)
        return asdict(
            Voice(
                info.format,
                info.bytes,
                len(wave) / 16000,
                _is_speech(wave[: SPEECH_SEARCH_SECONDS * 16000]),
                round(float(level.max()), 1),
                float(np.mean(np.abs(wave) >= FULL_SCALE_LEVEL)) if len(wave) else 0.0,
                _silences(level),
                list(info.notes),
            )
        )


def _read_frame(path: str, at: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """The frame of a clip at `at` seconds, and the clip's notes."""
    with Clip(Path(path)) as clip:
        number = min(max(round(at * clip.fps), 0), clip.frame_count - 1)
        return next(clip.frames_at([number])), clip.notes


def _is_speech(wave: np.ndarray) -> bool | None:
    try:
        features = extract_voice_features(wave)
    except (ImportError, OSError):
        return None
    loud = float((features.level > silence_threshold(features.level)).sum()) * HOP_SECONDS
    rate = len(features.phonemes) / max(loud, 0.1)
    return (
        rate >= MIN_PHONEME_RATE
        and len({phoneme.symbol for phoneme in features.phonemes}) >= MIN_DISTINCT_PHONEMES
    )


def _silences(level: np.ndarray) -> list[tuple[float, float]]:
    edges = np.diff(np.concatenate([[0], (level <= silence_threshold(level)).astype(int), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    spans = zip(starts * HOP_SECONDS, ends * HOP_SECONDS, strict=True)
    return [(float(a), float(b)) for a, b in spans if b - a >= LONG_SILENCE_SECONDS]


def _face(found: FaceLandmarks, rgb: np.ndarray) -> Face:
    height, width = rgb.shape[:2]
    left, top, right, bottom = found.box
    pose = Pose.from_landmarks(found.points)
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


def _downscale(rgb: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(rgb)
    picture.thumbnail((TRACK_PIXELS, TRACK_PIXELS))
    return np.asarray(picture)


def _watermark(path: str, output: str, visible: bool) -> dict[str, Any]:
    (add_watermark if visible else tag_metadata)(Path(path), Path(output))
    return {}


def main() -> None:
    """Load the face detector, then serve requests or fork children that do."""
    lower_priority()
    handlers = _InspectionHandlers()
    fork_server.serve(lambda: _serve_requests(handlers))


def _serve_requests(handlers: _InspectionHandlers) -> None:
    """Reply to requests until the parent is gone."""
    operations = {
        "source": handlers.source,
        "frame": handlers.frame,
        "faceless_spans": handlers.faceless_spans,
        "track_face": handlers.track_face,
        "voice": handlers.voice,
        "cut_source": trim.cut_source,
        "cut_voice": trim.cut_voice,
        "watermark": _watermark,
    }
    with parent_connection() as (requests, send):
        for request in requests:
            seconds = cpu_count() * request.pop("seconds")
            # The same child may get further requests about its file, and idles in between.
            limit_resources(
                seconds,
                request.pop("memory"),
                request.pop("output_bytes"),
                MAX_REQUESTS_PER_CHILD * seconds,
            )
            try:
                send(reply=operations[request.pop("operation")](**request))
            except MediaError as error:
                send(problem=str(error))
            except MemoryError:
                send(problem=_OUT_OF_MEMORY)


if __name__ == "__main__":
    main()

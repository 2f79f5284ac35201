"""Lip-sync evaluation of any video, from its pixels and sound alone.

Independent of how a video was made: expected lip motion comes from `audio_model`, actual motion
from landmarks (`lip_motion`), and `measures` compares them. Thresholds are set by recordings of
real people; `python -m benchmarks judge` prints how well they separate good from bad.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.speech_features import HOP_SECONDS, SAMPLE_RATE
from kolbo_demo.engine.sync_eval.audio_model import LipModel, SoundFeatures, extract_sound_features
from kolbo_demo.engine.sync_eval.head_motion import HeadMotion
from kolbo_demo.engine.sync_eval.lip_motion import LipMotion, extract_lip_motion
from kolbo_demo.engine.sync_eval.measures import Floats, measure_articulation, measure_sync
from kolbo_demo.media.audio_timestamps import media_start_time
from kolbo_demo.media.demux import MediaError, open_media, read_timeline, video_stream

MIN_FACE_SHARE = 0.3
"""Least share of frames with a face."""
MIN_LIP_RANGE, MIN_FACE_MOTION = 0.015, 2.0
"""Below the first range of openings (5th to 95th percentile) lips do not move: people who talk have
0.07 and more. Below the second, in thousandths of the eye distance, the whole face is still."""
LOUDNESS_CORRELATION, LOUDNESS_MARGIN = 0.8, 0.12
"""A mouth follows loudness only if its opening correlates this much with loudness, and by this
margin more than with the expected opening."""
MIN_SECONDS = 2.0
"""Face and speech needed for a verdict on sync."""
MIN_CONFIDENCE = 0.5
"""Below it, lips are taken to belong to another sound."""
IN_STEP_MS = 45.0
"""Unnoticed offset either way (ITU-R BT.1359-1: sound early by 45 ms is noticed)."""

MAX_START_GAP_SECONDS = 10.0
"""A larger gap between the starts of sound and picture is a damaged time stamp."""

MIN_SHARPNESS = 0.61
"""Of a mouth that is not blurred: real ones are over 0.63; those blurred by 0.03 of the eye
distance and encoded again are under 0.59, by 0.02 under 0.61 on ten clips of eleven."""
MAX_SHAKE, MAX_PAUSE_MOTION, MIN_CLOSURES_HIT = 25.0, 1.0, 0.6
"""Limits of notes: three times the shake of real clips; as much motion in pauses as in speech,
which one person in ten shows; fewer closures than any real speaker with four of them."""


Angles = tuple[float, float, float]


@dataclass(frozen=True)
class SyncReport:
    """Measurements, in seconds unless named `_ms`; None if unknown. Fields are keys of its JSON."""

    verdict: str
    """"in step", "120 ms late", "still picture", ..."""
    fps: float
    seconds: float
    face: float
    """Share of frames with a face, 0-1."""
    offset_ms: int | None = None
    """Delay of the lips; negative: they are early. Accurate to one frame from 5 s of speech on, and
    meaningless if confidence is below one half."""
    confidence: float = 0.0
    """Probability that lips and sound belong together, with a prior of one half."""
    sync: float | None = None
    """Correlation of actual and expected lips at lag 0,"""
    sync_best: float | None = None
    """and at the offset."""
    follows_loudness: float | None = None
    """Best correlation of the opening with loudness,"""
    follows_sounds: float | None = None
    """and with the expected opening."""
    closures: int = 0
    """Spoken p, b and m while the face is visible."""
    closures_hit: float | None = None
    """Share of them with closed lips, 0-1,"""
    closures_chance: float | None = None
    """and share of other moments of speech with closed lips."""
    rounding: float | None = None
    """Probability that a rounded vowel is narrower than a spread one (chance 0.5; people 0.8)."""
    pause_motion: float | None = None
    """Speed of the lips in pauses over that in speech (people about 0.5)."""
    shake: float | None = None
    """Jitter of the upper face, thousandths of the eye distance."""
    sharpness: float | None = None
    """Of the mouth, relative to eyes and nose."""
    head_spread: Angles | None = None
    """Standard deviation of the head's pitch, yaw and roll, degrees,"""
    head_speed: Angles | None = None
    """mean speed of each, degrees a second,"""
    head_noise_speed: Angles | None = None
    """and the part of the speed that is noise of the landmarks, if it were the only motion."""
    head_top_speed: float | None = None
    """Largest speed of the three, degrees a second."""
    blinks_per_minute: float | None = None
    gaze_shifts_per_minute: float | None = None
    notes: tuple[str, ...] = ()
    """Other visible defects."""
    aperture: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Opening of the lips in each frame, in eye distances, NaN without a face."""
    width: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Corner to corner, the same."""
    expected: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Expected opening in each frame, in standard deviations; empty without speech."""
    level: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Loudness in each frame, dBFS; empty without audio."""
    closure_times: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Expected closures for p, b and m."""
    closure_met: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False)
    """Whether the lips are closed at each of these."""

    @property
    def in_step(self) -> bool:
        return self.verdict == "in step"

    def summary(self) -> dict:
        """Everything but the curves, rounded, for JSON."""
        values = asdict(self)
        return {
            name: _rounded(value)
            for name, value in values.items()
            if not isinstance(value, np.ndarray)
        }

    def curves(self) -> dict:
        """The curves, rounded, for JSON: None where there is no face."""
        names = ("aperture", "width", "expected", "level", "closure_times")
        curves: dict = {name: _to_json(getattr(self, name)) for name in names}
        return curves | {"closure_met": [bool(met) for met in self.closure_met]}


def judge(video: Path, point: tuple[float, float] | None = None) -> SyncReport:
    """Evaluate a video's lips against its own sound.

    `point` (0-1, upright) selects the nearest face, else the largest is used. Frames are streamed;
    audio and measurements take about 0.3 MB a second. Raises MediaError for an unreadable picture.
    """
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain
    motion = extract_lip_motion(video, point)
    try:
        wave = load_voice(video, SAMPLE_RATE)
    except MediaError:
        return judge_features(motion, None, LipModel.load())
    wave = wave[round(SAMPLE_RATE * _audio_lead(video)) :]
    return judge_features(motion, extract_sound_features(wave), LipModel.load())


def judge_features(motion: LipMotion, sound: SoundFeatures | None, model: LipModel) -> SyncReport:
    """Compare lips and sound; `sound` is None for a silent video."""
    values: dict = {
        "fps": motion.fps,
        "seconds": len(motion.lips) / motion.fps,
        "face": float(motion.visible.mean()) if len(motion.lips) else 0.0,
        "shake": motion.shake,
        "sharpness": motion.sharpness,
        "aperture": motion.lips[:, 0],
        "width": motion.lips[:, 1],
    }
    if motion.head is not None and not np.isnan(motion.head.top_speed):
        values |= _describe_head(motion.head)
    if sound is not None:
        frame_hops = np.minimum((motion.times / HOP_SECONDS).astype(int), len(sound.level) - 1)
        values["level"] = sound.level[frame_hops]
    if values["face"] < MIN_FACE_SHARE or motion.visible.sum() < 3:
        return SyncReport("no face", **values)
    opening = motion.lips[motion.visible, 0]
    is_still = float(np.subtract(*np.percentile(opening, [95, 5]))) < MIN_LIP_RANGE
    speech = sound is not None and sound.has_speech
    if speech and sound is not None:
        values |= measure_sync(motion, sound, model) | measure_articulation(motion, sound)
    values["notes"] = tuple(_notes(values))
    if is_still:
        moves = motion.displacement > MIN_FACE_MOTION
        return SyncReport("lips do not move" if moves else "still picture", **values)
    if not speech or sound is None:
        return SyncReport("no speech found", **values)
    loudness = values["follows_loudness"]
    if loudness > LOUDNESS_CORRELATION and loudness > values["follows_sounds"] + LOUDNESS_MARGIN:
        return SyncReport("mouth follows loudness only", **values)
    if min(sound.speaking.sum() * HOP_SECONDS, motion.visible.sum() / motion.fps) < MIN_SECONDS:
        return SyncReport("too short to tell", **values)
    if values["confidence"] < MIN_CONFIDENCE:
        return SyncReport("lips do not follow this sound", **values)
    offset = values["offset_ms"]
    if abs(offset) <= IN_STEP_MS:
        return SyncReport("in step", **values)
    return SyncReport(f"{abs(offset)} ms {'late' if offset > 0 else 'early'}", **values)


def _describe_head(head: HeadMotion) -> dict:
    return {
        "head_spread": tuple(head.spread.tolist()),
        "head_speed": tuple(head.speed.tolist()),
        "head_noise_speed": tuple(head.noise_speed.tolist()),
        "head_top_speed": head.top_speed,
        "blinks_per_minute": head.blinks,
        "gaze_shifts_per_minute": head.gaze_shifts,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_rounded(one) for one in value)
    return round(value, 3) if isinstance(value, float) else value


def _to_json(curve: Floats) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in curve]


def _audio_lead(video: Path) -> float:
    """Seconds from the first sample to the first frame by the file's time stamps, at least 0."""
    with open_media(video) as container:
        timeline = read_timeline(container, video_stream(container))
        picture = timeline.start * timeline.time_base
        gap = float(picture - (media_start_time(container) or picture))
    return gap if 0 < gap < MAX_START_GAP_SECONDS else 0.0


def _notes(values: dict) -> list[str]:
    notes = []
    if values["sharpness"] is not None and values["sharpness"] < MIN_SHARPNESS:
        notes.append("the mouth is blurred")
    if (values["shake"] or 0.0) > MAX_SHAKE:
        notes.append("the face trembles")
    if (values.get("pause_motion") or 0.0) > MAX_PAUSE_MOTION:
        notes.append("the lips move in pauses")
    if values.get("closures", 0) >= 4 and values["closures_hit"] < MIN_CLOSURES_HIT:
        notes.append("lips stay open at p, b and m")
    return notes

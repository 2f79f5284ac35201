"""Whether lips say what is heard: a verdict on any video, from its pixels and its sound alone.

It knows nothing of how a video was made. What lips ought to do comes from a model of its own
(`judge_sound.py`), what they do from landmarks (`judge_picture.py`); `judge_measures.py` compares
them. The limits below are set by real people talking; `python -m benchmarks judge` prints how well
they part good from bad.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.speech_features import HOP, RATE
from kolbo_demo.engine.sync_eval.audio_model import Model, Sound, hear
from kolbo_demo.engine.sync_eval.lip_motion import Seen, watch
from kolbo_demo.engine.sync_eval.measures import Floats, articulation, sync
from kolbo_demo.media.audio_timestamps import beginning
from kolbo_demo.media.demux import MediaError, open_media, read_timeline, video_stream

FACE_SHARE = 0.3
"""Of the frames: less of a face cannot be judged."""
SPEECHLESS, MOTIONLESS = 0.015, 2.0
"""Spread of the opening (5th to 95th percentile) under which lips do not move: real ones that talk
spread over 0.07 and more; thousandths of the eye distance under which the whole face stands."""
LOUD, LOUDER = 0.8, 0.12
"""Correlation of opening and loudness, and how far it is above that with the expected opening, of
a mouth that only opens with the sound."""
SHORT = 2.0
"""Seconds with a face and speech under which nothing is said about sync."""
TRUST = 0.5
"""Confidence under which lips are taken to belong to another sound."""
IN_STEP = 45.0
"""Milliseconds that go unnoticed either way (ITU-R BT.1359-1: sound early by 45 is noticed)."""

FAR = 10.0
"""Seconds between the starts of sound and picture that only a damaged time stamp claims."""

BLURRED = 0.61
"""Sharpness under which a mouth is blurred: real ones are over 0.63; those blurred by 0.03 of the
eye distance and encoded again are under 0.59, by 0.02 under 0.61 on ten clips of eleven."""
UNEASY, RESTLESS, MISSED = 25.0, 1.0, 0.6
"""Shake over three times that of real clips; motion in pauses as in speech, which one person in ten
shows; closures hit by fewer than any real speaker with four of them does."""


@dataclass(frozen=True)
class Report:
    """What was found. Times in seconds unless named `_ms`; None where it cannot be told."""

    verdict: str
    """In a few words: "in step", "120 ms late", "still picture", ..."""
    fps: float
    seconds: float
    """Of the picture."""
    face: float
    """Share of the frames in which a face is seen, 0-1."""
    offset_ms: int | None = None
    """Lips behind the sound; negative: before it. Good to one frame from 5 s of speech on, and
    meaningless where confidence is under one half."""
    confidence: float = 0.0
    """Probability that these lips belong to this sound, if one pair in two did, 0-1."""
    sync: float | None = None
    """Correlation of the lips with those expected, where they are."""
    sync_best: float | None = None
    """The same, the sound moved by the offset."""
    follows_loudness: float | None = None
    """Correlation of the opening with the sound's loudness at its best."""
    follows_sounds: float | None = None
    """The same with the opening that the sounds spoken ask for."""
    closures: int = 0
    """p, b and m heard while the face is seen."""
    closures_hit: float | None = None
    """Share of them at which the lips are closed, 0-1."""
    closures_chance: float | None = None
    """Share of other moments of speech at which they are closed all the same, 0-1."""
    rounding: float | None = None
    """Chance that a rounded vowel is narrower than a spread one (0.5: no rounding; people 0.8)."""
    pause_motion: float | None = None
    """Speed of the lips in pauses over that in speech (people about 0.5)."""
    shake: float | None = None
    """Trembling of the upper face, thousandths of the eye distance."""
    sharpness: float | None = None
    """Of the mouth over eyes and nose."""
    notes: tuple[str, ...] = ()
    """What else a viewer would notice, in plain words."""
    aperture: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Opening of the lips in each frame, parts of the eye distance, NaN without a face."""
    width: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Corner to corner in each frame, the same unit."""
    expected: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Opening that the speech asks for in each frame, in standard deviations; empty without any."""
    level: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Loudness of the sound in each frame, dB of full scale; empty without a sound."""
    closure_times: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Seconds at which lips would close for the p, b and m heard."""
    closure_met: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False)
    """Whether they did, for each of these."""

    @property
    def in_step(self) -> bool:
        """Whether lips and sound belong together and nothing is noticed."""
        return self.verdict == "in step"

    def summary(self) -> dict:
        """Everything but the curves, rounded, for JSON."""
        values = asdict(self)
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in values.items()
            if not isinstance(value, np.ndarray)
        }

    def curves(self) -> dict:
        """The curves, rounded, for JSON: None where there is no face."""
        names = ("aperture", "width", "expected", "level", "closure_times")
        found: dict = {name: _rounded(getattr(self, name)) for name in names}
        return found | {"closure_met": [bool(met) for met in self.closure_met]}


def judge(
    video: Path, point: tuple[float, float] | None = None, audio: Path | None = None
) -> Report:
    """Judge a video's lips against its own sound, or against another one that starts with it.

    `point` is 0-1 of the upright picture: the face nearest to it is judged, else the largest.
    Frames stream; what grows with the length is the sound and a few numbers a frame, about 0.3 MB a
    second. Raises MediaError where the picture cannot be read.
    """
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain
    seen = watch(video, point)
    try:
        wave = load_voice(video, RATE) if audio is None else load_voice(audio, RATE)
    except MediaError:
        return verdict_on(seen, None, Model.load())
    if audio is None:
        wave = wave[round(RATE * _sound_before_picture(video)) :]
    return verdict_on(seen, hear(wave), Model.load())


def verdict_on(seen: Seen, sound: Sound | None, model: Model) -> Report:
    """The report on what was seen and heard; `sound` None where there is none."""
    facts: dict = {
        "fps": seen.fps,
        "seconds": len(seen.lips) / seen.fps,
        "face": float(seen.found.mean()) if len(seen.lips) else 0.0,
        "shake": seen.shake,
        "sharpness": seen.sharpness,
        "aperture": seen.lips[:, 0],
        "width": seen.lips[:, 1],
    }
    if sound is not None:
        at = np.minimum((seen.times / HOP).astype(int), len(sound.level) - 1)
        facts["level"] = sound.level[at]
    if facts["face"] < FACE_SHARE or seen.found.sum() < 3:
        return Report("no face", **facts)
    opening = seen.lips[seen.found, 0]
    still = float(np.subtract(*np.percentile(opening, [95, 5]))) < SPEECHLESS
    speech = sound is not None and sound.speech
    if speech and sound is not None:
        facts |= sync(seen, sound, model) | articulation(seen, sound)
    facts["notes"] = tuple(_notes(facts))
    if still:
        moves = seen.motion > MOTIONLESS
        return Report("lips do not move" if moves else "still picture", **facts)
    if not speech or sound is None:
        return Report("no speech found", **facts)
    loud = facts["follows_loudness"]
    if loud > LOUD and loud > facts["follows_sounds"] + LOUDER:
        return Report("mouth follows loudness only", **facts)
    if min(sound.speaking.sum() * HOP, seen.found.sum() / seen.fps) < SHORT:
        return Report("too short to tell", **facts)
    if facts["confidence"] < TRUST:
        return Report("lips do not follow this sound", **facts)
    offset = facts["offset_ms"]
    if abs(offset) <= IN_STEP:
        return Report("in step", **facts)
    return Report(f"{abs(offset)} ms {'late' if offset > 0 else 'early'}", **facts)


def _rounded(curve: Floats) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in curve]


def _sound_before_picture(video: Path) -> float:
    """Seconds from the first sample to the first frame, as the file's time stamps have it."""
    with open_media(video) as container:
        timeline = read_timeline(container, video_stream(container))
        picture = timeline.start * timeline.time_base
        gap = float(picture - (beginning(container) or picture))
    return gap if 0 < gap < FAR else 0.0


def _notes(facts: dict) -> list[str]:
    """What a viewer would notice beside sync."""
    notes = []
    if facts["sharpness"] is not None and facts["sharpness"] < BLURRED:
        notes.append("the mouth is blurred")
    if (facts["shake"] or 0.0) > UNEASY:
        notes.append("the face trembles")
    if (facts.get("pause_motion") or 0.0) > RESTLESS:
        notes.append("the lips move in pauses")
    if facts.get("closures", 0) >= 4 and facts["closures_hit"] < MISSED:
        notes.append("lips stay open at p, b and m")
    return notes

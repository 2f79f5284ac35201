"""Subtitles for spoken words as WebVTT and SRT, timed by the pauses of the voice."""

import re
import wave
from pathlib import Path
from unicodedata import bidirectional, east_asian_width

FORMATS = (".vtt", ".srt")
"""Suffixes of files."""

LINE = 42
"""Columns that are read at a glance."""
HOP, QUIET, PAUSE = 0.02, 0.08, 0.12
"""Seconds of a step; loudness of a pause over that of the loud parts; seconds of a pause."""
_SENTENCES = re.compile(r"(?<=[.!?…؟])\s+|(?<=[。！？])")
_PHRASES = re.compile(r"(?<=[,;:—،؛]\s)|(?<=[，、；：])")
_WORDS = re.compile(
    r"[\u3000-\u9fff\uff00-\uffef][，、；：。！？]*\s*|[^\s\u3000-\u9fff\uff00-\uffef]+\s*"
)
"""A character of Chinese with the punctuation after it, or a word."""
Cue = tuple[str, float, float]
"""Line, start and end in seconds."""
NEAR = 0.6
"""Seconds that a pause may be from where the line should end by its length."""


def beside(video: Path) -> list[Path]:
    """Paths of the subtitles of a video, one for each of `FORMATS`."""
    return [video.with_suffix(suffix) for suffix in FORMATS]


def write(words: str, voice: Path, *targets: Path, part: tuple[float, float] | None = None) -> None:
    """Write the subtitles of `words`, spoken in `voice`, a mono 16-bit WAV. The suffix of each
    target, one of `FORMATS`, selects its format. `part` is the start and end in seconds of the
    voice that is used; times count from its start."""
    lines = lines_of(words)
    start, end, pauses = _pauses(voice)
    ends = _ends([_columns(line) for line in lines], start, end, pauses)
    cues = list(zip(lines, [start, *ends], ends, strict=False))
    if part:
        first, last = part
        cues = [
            (line, max(a - first, 0.0), min(b, last) - first)
            for line, a, b in cues
            if a < last and b > first
        ]
    for target in targets:
        text = _srt(cues) if target.suffix.lower() == ".srt" else _vtt(cues)
        target.write_text(text, encoding="utf-8")


def _vtt(cues: list[Cue]) -> str:
    return "\n".join(
        ["WEBVTT\n", *(f"{_clock(a)} --> {_clock(b)}\n{line}\n" for line, a, b in cues)]
    )


def _srt(cues: list[Cue]) -> str:
    blocks = (
        f"{number}\n{_clock(a)} --> {_clock(b)}\n".replace(".", ",") + f"{_embedded(line)}\n"
        for number, (line, a, b) in enumerate(cues, 1)
    )
    return "\n".join(blocks)


def _embedded(line: str) -> str:
    """A line in a direction that its first letter decides, as WebVTT has it; players of SRT assume
    left to right, and put its full stop at the wrong end."""
    strong = (kind for kind in map(bidirectional, line) if kind in ("L", "R", "AL"))
    return line if next(strong, "L") == "L" else f"\u202b{line}\u202c"


def lines_of(words: str) -> list[str]:
    """The words in lines of `LINE` columns: a new one after each sentence, else between phrases
    where it can be. Chinese and Japanese characters take two columns and need no spaces."""
    lines: list[str] = []
    # `-->` and tags have a meaning in the format.
    plain = " ".join(re.sub(r"[<>&]|--+", " ", words).split())
    for sentence in _SENTENCES.split(plain):
        line = ""
        for phrase in _PHRASES.split(sentence):
            whole = _columns(phrase.strip()) <= LINE
            if line and _columns((line + phrase).strip()) > LINE:
                lines.append(line)
                line = ""
            for part in [phrase] if whole else _WORDS.findall(phrase):
                if line and _columns((line + part).strip()) > LINE:
                    lines.append(line)
                    line = ""
                line += part
        lines.append(line)
    return [line.strip() for line in lines if line.strip()]


def _columns(text: str) -> int:
    return sum(1 + (east_asian_width(character) in "WF") for character in text)


def _pauses(voice: Path) -> tuple[float, float, list[float]]:
    """When the voice begins and ends, and the middles of its pauses, in seconds."""
    import numpy as np  # which only callers that write subtitles need

    with wave.open(str(voice)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
    step = max(1, int(rate * HOP))
    count = len(samples) // step
    level = np.sqrt(np.mean(samples[: count * step].reshape(count, step) ** 2, axis=1))
    spoken = np.flatnonzero(level > QUIET * np.percentile(level, 95))
    if not len(spoken):
        return 0.0, len(samples) / rate, []
    gaps = np.diff(spoken)
    pauses = [
        float((spoken[i] + spoken[i + 1] + 1) / 2 * HOP)
        for i in np.flatnonzero(gaps * HOP >= PAUSE)
    ]
    return float(spoken[0] * HOP), float((spoken[-1] + 1) * HOP), pauses


def _ends(lengths: list[int], start: float, end: float, pauses: list[float]) -> list[float]:
    """Where each line ends: by its share of the characters, or at a pause that is near."""
    ends: list[float] = []
    pace = (end - start) / max(1, sum(lengths))
    at = start
    for length in lengths[:-1]:
        at += length * pace
        later = [pause for pause in pauses if pause > (ends[-1] if ends else start)]
        nearest = min(later, key=lambda pause: abs(pause - at), default=at)
        ends.append(nearest if abs(nearest - at) <= NEAR else max(at, ends[-1] if ends else at))
    return [*ends, end]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{rest:06.3f}"

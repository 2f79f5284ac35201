"""Clips of kinds combined at random. A failure names its seed: KOLBO_WILD_SEED=N runs that one,
KOLBO_WILD_CASES=N runs more."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from kolbo_demo.engine.video_reader import NO_ALPHA, NO_HDR, Clip
from kolbo_demo.media.probe import first_frame, inspect_source
from tests import samples
from tests.wild import cases
from tests.wild.clips import (
    BT709,
    BT2020,
    HLG,
    ICTCP,
    P3,
    PQ,
    TO_P3,
    WEIGHTS,
    WIDER,
    YCGCO,
    as_frame,
    bt709,
    hlg,
    ictcp,
    light_of,
    mixed,
    pq,
    scene_of,
    written,
    ycgco,
)

CLEAR = {"b": "6000000"}
INTRA = {"g": "1", **CLEAR}
"""Whole pictures, where differences blur the cards."""
SVT = {"preset": "8", "crf": "5", "svtav1-params": "lp=1"}
Codec = tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]
CODECS: dict[str, Codec] = {
    "libx264": (
        ("mp4", "mov", "mkv", "ts", "flv"),
        ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12"),
        {"preset": "ultrafast", "crf": "4"},
    ),
    "libx265": (
        ("mp4", "mov", "mkv", "ts"),
        ("yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "gbrp10le"),
        {"preset": "ultrafast", "x265-params": "crf=4:log-level=none"},
    ),
    "libsvtav1": (("mp4", "mkv", "webm"), ("yuv420p", "yuv420p10le"), SVT),
    "libvpx-vp9": (
        ("webm", "mkv"),
        ("yuv420p", "yuv422p", "yuv444p", "yuva420p"),
        {"auto-alt-ref": "0", "crf": "4", "cpu-used": "8"},
    ),
    "libvpx": (
        ("webm", "mkv"),
        ("yuv420p", "yuva420p"),
        {"auto-alt-ref": "0", "b": "3000000", "cpu-used": "8"},
    ),
    "prores_ks": (
        ("mov", "mkv"),
        ("yuv422p10le", "yuv444p10le", "yuva444p10le"),
        {"profile": "4444"},
    ),
    "dnxhd": (("mov",), ("yuv422p",), {"profile": "dnxhr_hq"}),
    "mjpeg": (("avi", "mov", "mkv"), ("yuvj420p", "yuvj422p", "yuvj444p"), {"qmin": "1"}),
    "mpeg4": (("mp4", "avi", "mkv", "3gp"), ("yuv420p",), INTRA),
    "mpeg2video": (("mpg", "ts", "mkv"), ("yuv420p", "yuv422p"), CLEAR),
    "mpeg1video": (("mpg",), ("yuv420p",), CLEAR),
    "flv": (("flv",), ("yuv420p",), INTRA),
    "wmv2": (("asf",), ("yuv420p",), INTRA),
    "msmpeg4": (("avi", "asf"), ("yuv420p",), INTRA),
    "ffv1": (
        ("mkv", "avi"),
        (
            *("yuv420p", "yuv411p", "yuv410p", "yuv422p10le", "yuv444p16le", "gbrp10le", "bgra"),
            *("yuva420p", "yuva444p10le", "rgb48le"),
        ),
        {},
    ),
    "png": (("mov",), ("rgb24", "rgba", "rgb48be"), {}),
}
"""Containers, pixel formats, options."""
TAGGED = ("libx264", "libx265", "libsvtav1", "ffv1")
"""Codecs with every tag, in Matroska at least."""
TAGS = {
    "none": (2, 2, 2),
    "BT.709": (BT709, BT709, BT709),
    "BT.601": (6, 6, 6),
    "PAL": (5, 5, 6),
    "SMPTE 240M": (7, 7, 7),
    "sRGB": (BT709, BT709, 13),
    "P3": (BT709, P3, BT709),
    "BT.2020": (9, BT2020, 14),
    "PQ": (9, BT2020, PQ),
    "HLG": (9, BT2020, HLG),
    "YCgCo": (YCGCO, BT709, BT709),
    "ICtCp": (ICTCP, BT2020, PQ),
}
"""Matrix, primaries, transfer."""
DEEP = ("PQ", "HLG", "ICtCp")
SHAPED = ("libx264", "libx265")
"""Codecs that tell the shape of pixels."""
STEADY = ("avi", "mpg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "wmv2")
"""Containers and codecs that have one rate."""


def planes(rgb: np.ndarray, tags: str) -> np.ndarray:
    """Y, Cb and Cr of RGB of BT.709."""
    matrix, primaries, transfer = TAGS[tags]
    rgb = rgb.astype(float)
    signal = rgb / 255
    if transfer in (PQ, HLG):
        light = light_of(rgb) @ WIDER.T
        if matrix == ICTCP:
            return ictcp(light, transfer)
        return mixed((pq if transfer == PQ else hlg)(light), 0.2627, 0.0593)
    if primaries == P3:
        signal = bt709(scene_of(rgb) @ TO_P3.T)
    if primaries == BT2020:
        return mixed(bt709(scene_of(rgb) @ WIDER.T), 0.2627, 0.0593)
    if matrix == YCGCO:
        return ycgco(signal)
    return mixed(signal, *WEIGHTS.get(matrix, WEIGHTS[5]))


class Mixture:
    """A clip of numbered cards."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.codec = str(rng.choice(list(CODECS)))
        containers, formats, self.options = CODECS[self.codec]
        self.suffix = str(rng.choice(containers))
        self.format = str(rng.choice(formats))
        self.rgb = self.format.startswith(("gbr", "rgb", "bgr"))
        self.full = self.format.startswith("yuvj")
        self.tags = "BT.709" if self.codec == "dnxhd" else "none"
        self.alpha = "a" in self.format
        if self.codec in TAGGED and not (self.rgb or self.alpha or self.suffix == "avi"):
            able = [
                name for name in TAGS if name not in DEEP or "10" in self.format
                or "12" in self.format or "16" in self.format
            ]  # fmt: skip
            self.tags = str(rng.choice(able))
            self.full = bool(rng.random() < 0.3)
        self.turn = int(rng.choice([0, 90, 180, 270])) if self.suffix in ("mp4", "mov") else 0
        self.aspect = Fraction(1)
        if self.codec in SHAPED and self.suffix != "avi":
            self.aspect = Fraction(str(rng.choice(["1", "1", "4/3", "16/11", "1/2"])))
        low = 256 if self.codec == "dnxhd" else 80
        self.size = (int(rng.integers(low, low + 160)), int(rng.integers(low // 2 + 32, low + 80)))
        even = self.codec not in ("libvpx", "libvpx-vp9", "ffv1", "png", "prores_ks")
        if even or "42" in self.format or "41" in self.format:
            self.size = self.size[0] // 4 * 4, self.size[1] // 4 * 4
        fps = Fraction(str(rng.choice(["15", "24", "25", "30000/1001", "30", "50", "60"])))
        self.steady = not {self.codec, self.suffix}.isdisjoint(STEADY)
        if self.steady:
            fps = Fraction(25)
        self.times = [float(n / fps) for n in range(int(rng.integers(4, 12)))]
        self.uneven = not self.steady and rng.random() < 0.4
        if self.uneven:
            steps = rng.choice([1, 1, 1, 2, 3, 7], len(self.times)) / float(fps)
            self.times = [0.0, *np.cumsum(steps)[:-1].tolist()]
        self.fps = float(fps)
        self.path = self._written(folder)

    def __repr__(self) -> str:
        return repr(vars(self))

    def _written(self, folder: Path) -> Path:
        matrix, primaries, transfer = TAGS[self.tags]
        width, height = self.size
        shape = self.size if self.turn % 180 == 0 else (height, width)
        frames = []
        for number in range(len(self.times)):
            card = samples.card(number, *shape)
            rgba = np.concatenate([card, np.full((*card.shape[:2], 1), 255, np.uint8)], -1)
            if self.alpha:
                rgba[: shape[1] // 8, shape[0] // 2 - 8 : shape[0] // 2 + 8, 3] = 0
            rgba = np.ascontiguousarray(np.rot90(rgba, -self.turn // 90))
            if self.rgb or self.alpha:
                frames.append(VideoFrame.from_ndarray(rgba, "rgba").reformat(format=self.format))
            else:
                frames.append(as_frame(planes(rgba[..., :3], self.tags), self.format, self.full))
        return written(
            folder / f"mixture.{self.suffix}",
            frames, self.codec, matrix, transfer, primaries, 2 if self.full or self.rgb else 1,
            self.options, None if self.steady else self.times, self.aspect, self.turn,
        )  # fmt: skip

    @property
    def shown_size(self) -> tuple[float, float]:
        width, height = self.size
        across = max(self.aspect, 1)
        x, y = float(width * across), float(height * across / self.aspect)
        return (x, y) if self.turn % 180 == 0 else (y, x)


def corners(rgb: np.ndarray) -> np.ndarray:
    """(4, 3), around the middle of each."""
    height, width = rgb.shape[:2]
    y, x = height // 10, width // 10
    spots = [(y, x), (y, width - x), (height - y, x), (height - y, width - x)]
    return np.array([rgb[b - 2 : b + 3, a - 2 : a + 3].mean((0, 1)) for b, a in spots])


@pytest.mark.parametrize("seed", cases.seeds(200))
def test_clips_of_any_kind_look_like_their_source(tmp_path: Path, seed: int) -> None:
    mixture = Mixture(tmp_path, np.random.default_rng(seed))
    with Clip(mixture.path) as clip:
        frames, notes, fps = list(clip.frames()), clip.notes, float(clip.fps)
    look = inspect_source(mixture.path)
    height, width = frames[0].shape[:2]
    assert (width, height) == pytest.approx(mixture.shown_size, abs=1.6), mixture
    assert (look.width, look.height) == pytest.approx(mixture.shown_size, abs=1.6), mixture
    wanted = np.array(samples.UPRIGHT)
    for rgb in (frames[0], frames[-1], np.asarray(first_frame(mixture.path))):
        error = np.abs(corners(rgb) - wanted)
        assert error.mean() < 6, (error, mixture)
        assert error.max() < 25, (error, mixture)
    assert notes == (
        *([NO_HDR] if mixture.tags in DEEP else []), *([NO_ALPHA] if mixture.alpha else [])
    ), mixture  # fmt: skip
    if mixture.alpha:
        assert frames[0][2, width // 2].min() > 245, mixture
    length = mixture.times[-1] + 1 / mixture.fps
    longest = max(np.diff(mixture.times))  # which is how long the last one may be shown
    assert look.duration == pytest.approx(length, abs=1.2 * longest), mixture
    numbers = [samples.number_on(rgb) for rgb in frames]
    times = np.array(mixture.times)
    for place, number in enumerate(numbers):
        off = np.abs(times - place / fps)
        assert number < len(times), (numbers, mixture)
        assert off[number] <= off.min() + 0.004, (numbers, mixture)

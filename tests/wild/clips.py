"""Builders of clips in colours that screens do not have.

Signals are made by the forward equations of ITU-R BT.2020 and BT.2100 from colours of BT.709, which
are to come out again.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from kolbo_demo.engine.video_reader import Clip

BT709, BT2020, P3, PQ, HLG = 1, 9, 12, 16, 18
YCGCO, CONSTANT, DERIVED, ICTCP = 8, 10, 12, 14
WIDER = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""BT.709's light in BT.2020's (ITU-R BT.2087)."""
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
"""BT.709's light in Display P3's."""
CONES = np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087)}
WHITE = 203
"""cd/m2 (ITU-R BT.2408)."""
COLOURS = np.array(
    [(224, 172, 140), (141, 85, 60), (60, 38, 30), (40, 60, 150), (50, 130, 60), (128, 128, 128)]
)
"""Skin first."""


def pq(light: np.ndarray) -> np.ndarray:
    """The signal for so many times diffuse white."""
    y = np.clip(light * WHITE / 10000, 0, 1) ** (2610 / 16384)
    return ((3424 + 2413 * 32 * y) / (4096 + 2392 * 32 * y)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    """The signal with which a display of 1000 cd/m2 shows light of BT.2020."""
    return hlg_of(scene(light))


def scene(light: np.ndarray) -> np.ndarray:
    shown = light * WHITE / 1000
    luminance = (shown @ [0.2627, 0.6780, 0.0593])[..., None]
    return shown * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)


def hlg_of(light: np.ndarray) -> np.ndarray:
    bright = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
    return np.where(light <= 1 / 12, np.sqrt(3 * np.maximum(light, 0)), bright)


def bt709(light: np.ndarray) -> np.ndarray:
    return np.where(light < 0.018, 4.5 * light, 1.099 * np.maximum(light, 0) ** 0.45 - 0.099)


def mixed(signal: np.ndarray, red: float, blue: float) -> np.ndarray:
    """Y, Cb and Cr of a signal."""
    y = signal @ [red, 1 - red - blue, blue]
    cb, cr = (signal[..., 2] - y) / (2 - 2 * blue), (signal[..., 0] - y) / (2 - 2 * red)
    return np.stack([y, cb, cr], -1)


def ycgco(signal: np.ndarray) -> np.ndarray:
    return signal @ np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]]).T


def ictcp(light: np.ndarray, transfer: int) -> np.ndarray:
    if transfer == PQ:
        cones = pq(light @ CONES.T)
        colour = [[6610, -13613, 7003], [17933, -17390, -543]]
    else:
        cones = hlg_of(scene(light) @ CONES.T)
        colour = [[3625, -7465, 3840], [9500, -9212, -288]]
    return cones @ (np.array([[2048, 2048, 0], *colour]) / 4096).T


def constant(light: np.ndarray) -> np.ndarray:
    """Luma of light, not of signals (ITU-R BT.2020, table 4)."""
    y = bt709(light @ [0.2627, 0.6780, 0.0593])
    cb, cr = bt709(light[..., 2]) - y, bt709(light[..., 0]) - y
    cb = np.where(cb < 0, cb / 1.9404, cb / 1.5816)
    cr = np.where(cr < 0, cr / 1.7184, cr / 0.9936)
    return np.stack([y, cb, cr], -1)


def patches(colours: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(colours[None], 64, 0), 16, 1).astype(float)


def light_of(rgb: np.ndarray) -> np.ndarray:
    """Of a screen (ITU-R BT.1886)."""
    return (rgb / 255) ** 2.4


def scene_of(rgb: np.ndarray) -> np.ndarray:
    signal = rgb / 255
    return np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))


def clip(
    path: Path,
    planes: np.ndarray,
    matrix: int,
    transfer: int = BT709,
    primaries: int = BT709,
    codec: str = "ffv1",
    pix_fmt: str = "yuv444p16le",
    full: bool = False,
    count: int = 3,
) -> Path:
    """Frames of Y 0-1 and two colours from -0.5 to 0.5."""
    frame = as_frame(planes, pix_fmt, full)
    return written(path, [frame] * count, codec, matrix, transfer, primaries, 2 if full else 1)


def as_frame(planes: np.ndarray, pix_fmt: str, full: bool) -> VideoFrame:
    """Of Y 0-1 and two colours from -0.5 to 0.5."""
    scale, offset = ([65280] * 3, [0, 32768, 32768]) if full else (
        np.array([219, 224, 224]) * 256, np.array([16, 128, 128]) * 256
    )  # fmt: skip
    deep = np.clip(np.round(planes * scale + offset), 0, 65535).astype(np.uint16)
    frame = VideoFrame.from_ndarray(deep, "yuv444p16le")
    frame.color_range = 2 if full else 1
    return frame.reformat(format=pix_fmt, dst_color_range=frame.color_range)


def written(
    path: Path,
    frames: list[VideoFrame],
    codec: str,
    matrix: int = 2,
    transfer: int = 2,
    primaries: int = 2,
    full: int = 0,
    options: dict[str, str] | None = None,
    times: list[float] | None = None,
    aspect: Fraction | None = None,
    turn: int = 0,
) -> Path:
    """`times`: seconds at which each frame is shown. `aspect`: of a pixel. `turn`: degrees,
    counter-clockwise."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        context.color_range = full
        stream.thread_count = 1
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)
        if times is not None:
            context.time_base = Fraction(1, 90000)
        for number, frame in enumerate(frames):
            frame.colorspace, frame.color_primaries, frame.color_trc = matrix, primaries, transfer
            frame.pts, frame.time_base = number, Fraction(1, 25)
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 90000), Fraction(1, 90000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shown(path: Path) -> np.ndarray:
    """The second frame's patches, (n, 3)."""
    with Clip(path) as seen:
        return list(seen.frames(3))[1][32, 8::16].astype(float)

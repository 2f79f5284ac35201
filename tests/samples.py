"""Small odd media, made on the fly. Each function writes `path` and returns it.

Pictures of videos are cards: four corners tell which way is up, a row of cells tells the number
of the frame.
"""

import io
import struct
import wave
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image

from kolbo_demo.engine.audio_io import load_voice

ASSETS = Path(__file__).parent.parent / "assets"
PORTRAIT = ASSETS / "portrait.jpg"
SPEECH = ASSETS / "speech.wav"

ODD_NAMES = (
    "two words",
    'it\'s "quoted"',
    "100% #1 & more; $HOME",
    "-i",
    "file:x",
    "smile 😀",
    "портрет",
    "肖像",
    "صورة",
    "e\u0301te\u0301",
)

RED, GREEN, BLUE, WHITE = (220, 40, 40), (40, 200, 60), (50, 60, 210), (235, 235, 235)
_CELLS = 10


# Cards


def card(number: int, width: int = 160, height: int = 120) -> np.ndarray:
    """RGB picture with red, green, blue and white corners and `number` in black and white cells."""
    rgb = np.full((height, width, 3), 120, np.uint8)
    h, w = height // 4, width // 4
    rgb[:h, :w], rgb[:h, -w:], rgb[-h:, :w], rgb[-h:, -w:] = RED, GREEN, BLUE, WHITE
    for bit in range(_CELLS):
        left, right = width * bit // _CELLS, width * (bit + 1) // _CELLS
        rgb[2 * height // 5 : 3 * height // 5, left:right] = 230 if number >> bit & 1 else 20
    return rgb


def number_on(rgb: np.ndarray) -> int:
    """The number of an upright card."""
    height, width = rgb.shape[:2]
    cells = [rgb[height // 2, width * (2 * bit + 1) // (2 * _CELLS)] for bit in range(_CELLS)]
    return sum(1 << bit for bit, cell in enumerate(cells) if cell.mean() > 125)


def corners_of(rgb: np.ndarray) -> list[tuple[int, int, int]]:
    """The nearest of the four card colours at top left, top right, bottom left, bottom right."""
    height, width = rgb.shape[:2]
    y, x = height // 10, width // 10
    colours = np.array([RED, GREEN, BLUE, WHITE])
    spots = [rgb[y, x], rgb[y, -x], rgb[-y, x], rgb[-y, -x]]
    return [tuple(colours[np.abs(colours - spot).sum(1).argmin()].tolist()) for spot in spots]


UPRIGHT = [RED, GREEN, BLUE, WHITE]


# Any kind of file


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    path.write_text(
        "<!doctype html><title>Not found</title><p>This is no medium at all.</p>\n" * 40
    )
    return path


def noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(7).bytes(20_000))
    return path


def playlist(path: Path, target: str) -> Path:
    """An HLS playlist that asks for `target`."""
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n", "utf-8"
    )
    return path


def too_heavy(path: Path) -> Path:
    """101 MB that start like a JPEG, sparse: they take no space on the disk."""
    with path.open("wb") as file:
        file.write(PORTRAIT.read_bytes()[:1000])
        file.truncate(101 * 1024 * 1024)
    return path


def cut(path: Path, source: Path, share: float = 0.5) -> Path:
    """The first part of another file."""
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def scratched(path: Path, source: Path, first: float = 0.4, last: float = 0.6) -> Path:
    """Another file with a stretch of noise in it."""
    content = bytearray(source.read_bytes())
    a, b = int(len(content) * first), int(len(content) * last)
    content[a:b] = np.random.default_rng(3).bytes(b - a)
    path.write_bytes(content)
    return path


# Pictures


def portrait(path: Path) -> Path:
    """The portrait in the format that the name asks for; nameless as PNG."""
    with Image.open(PORTRAIT) as image:
        image.save(path, None if path.suffix else "PNG")
    return path


def truncated_jpeg(path: Path) -> Path:
    return cut(path, PORTRAIT)


def truncated_png(path: Path) -> Path:
    whole = io.BytesIO()
    Image.open(PORTRAIT).save(whole, "PNG")
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    return path


def itemless_avif(path: Path) -> Path:
    """An AVIF that does not tell where its picture lies: its reader fails in its own way."""
    content = portrait(path.with_name("whole.avif")).read_bytes()
    path.write_bytes(content.replace(b"iloc", b"free"))
    return path


def cmyk_jpeg(path: Path) -> Path:
    Image.fromarray(card(0)).convert("CMYK").save(path, "JPEG", quality=95)
    return path


def grey16_png(path: Path) -> Path:
    """16-bit grey: left half dark, right half bright (values 12800 and 51200)."""
    values = np.full((64, 64), 12800, np.uint16)
    values[:, 32:] = 51200
    cv2.imencode(".png", values)[1].tofile(path)
    return path


def rgb16_png(path: Path) -> Path:
    values = card(0)[..., ::-1].astype(np.uint16) * 257
    cv2.imencode(".png", values)[1].tofile(path)
    return path


def float_tiff(path: Path) -> Path:
    """Grey floats from 0 to 1, left to right."""
    values = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    Image.fromarray(values).save(path, "TIFF")
    return path


def alpha_png(path: Path) -> Path:
    """A red square in the middle of nothing."""
    values = np.zeros((64, 64, 4), np.uint8)
    values[16:48, 16:48] = (*RED, 255)
    Image.fromarray(values).save(path, "PNG")
    return path


def palette_gif(path: Path) -> Path:
    """The same in 2 colours, one of them transparent."""
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, *RED])
    image.paste(1, (16, 16, 48, 48))
    image.save(path, "GIF", transparency=0)
    return path


def exif_rotated(path: Path, orientation: int = 6) -> Path:
    """A card of 160x120 stored as a camera held that way stores it; shown upright it is a card."""
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }[orientation](card(9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, "JPEG", quality=95, exif=exif)
    return path


def blank_png(path: Path, width: int, height: int) -> Path:
    """A valid white picture of any size, a bit a pixel, made without holding it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    packer = zlib.compressobj(1)
    row = b"\0" + b"\xff" * -(-width // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    return path


def tiny_png(path: Path) -> Path:
    return blank_png(path, 1, 1)


def huge_png(path: Path) -> Path:
    return blank_png(path, 20_000, 20_000)


# Sound


def chirps(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Sound that can be told from itself a sample later: float32 (channels, samples).

    Each channel has its own noise, up to about 2 kHz at any rate, that comes and goes.
    """
    count, width = round(seconds * rate), max(8, rate // 1000)
    window = np.hanning(width) / np.sqrt((np.hanning(width) ** 2).sum())
    drawn = np.random.default_rng(11).standard_normal((channels, count + width - 1))
    smooth = np.array([np.convolve(row, window, "valid") for row in drawn])
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * np.arange(count) / rate)
    return (0.15 * swell * smooth).astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """16-bit WAV of float samples (channels, samples) in -1..1; layouts beyond stereo unnamed."""
    values = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((len(values), 2, rate, 0, "NONE", ""))
        file.writeframes(values.T.tobytes())
    return path


def cut_wav(path: Path, source: Path, seconds: float) -> Path:
    """The beginning of another recording, or all of it and silence after it, as 16 kHz WAV."""
    sound = np.zeros(round(seconds * 16_000), np.float32)
    heard = load_voice(source, 16_000)[: len(sound)]
    sound[: len(heard)] = heard
    return wav(path, sound[None], 16_000)


def recording(
    path: Path, seconds: float = 0.5, rate: int = 48000, channels: int = 1, codec: str = ""
) -> Path:
    """Chirps in the container that the name asks for."""
    samples = chirps(seconds, rate, channels)
    if path.suffix == ".wav" and not codec:
        return wav(path, samples, rate)
    with av.open(str(path), "w") as out:
        _add_sound(out, samples, rate, codec or out.default_audio_codec)()
    return path


def _add_sound(
    out: OutputContainer, samples: np.ndarray, rate: int, codec: str
) -> Callable[[], None]:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    stream = out.add_stream(codec, rate=rate, layout=layout)
    assert isinstance(stream, AudioStream)

    def write() -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
        frame.rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    return write


def silent_wav(path: Path, seconds: float = 1.0) -> Path:
    return wav(path, np.zeros((1, round(seconds * 16000))), 16000)


def short_wav(path: Path) -> Path:
    """0.05 s."""
    return recording(path, 0.05, 16000)


def long_wav(path: Path) -> Path:
    """10 minutes of soft hum, 8 kHz."""
    hum = 0.05 * np.sin(np.arange(600 * 8000, dtype=np.float32) * 0.1)
    return wav(path, hum[None], 8000)


def truncated_mp3(path: Path) -> Path:
    whole = recording(path.with_name("whole-" + path.name), 1.0, 44100, 2)
    return cut(path, whole, 0.55)


def shredded_mp3(path: Path) -> Path:
    """So little of an MP3 that no sound is left in it."""
    whole = recording(path.with_name("whole-" + path.name), 0.3, 44100, 2)
    content = whole.read_bytes()
    path.write_bytes(content[content.index(b"\xff\xfb") :][:40])
    return path


def nan_wav(path: Path) -> Path:
    """Float WAV in which every tenth sample is not a number."""
    samples = chirps(0.5, 16000)[0]
    samples[::10] = np.nan
    body = samples.astype("<f4").tobytes()
    header = struct.pack("<4sIIHHIIHH", b"fmt ", 16, 0, 0, 0, 0, 0, 0, 0)[:8]
    header += struct.pack("<HHIIHH", 3, 1, 16000, 64000, 4, 32)
    content = b"WAVE" + header + b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)
    return path


# Videos


def video(
    path: Path,
    frames: int = 12,
    fps: Fraction | int = 25,
    width: int = 160,
    height: int = 120,
    *,
    pictures: list[np.ndarray] | None = None,
    times: list[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    matrix: int | None = None,
    sound: float = 0.0,
    turn: int = 0,
    hflip: bool = False,
    vflip: bool = False,
    aspect: Fraction | None = None,
    interlaced: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Numbered cards (or `pictures`) in the container that the name asks for.

    `times`: seconds at which each is shown. `matrix`: AVColorSpace, 1 for BT.709, 6 for BT.601,
    None for untagged. `sound`: seconds. `interlaced`: tells that each frame holds two moments,
    the upper field first. `turn`, `hflip`, `vflip`: the display matrix,
    counter-clockwise degrees.
    """
    if pictures is None:
        count = len(times) if times else frames
        pictures = [card(number, width, height) for number in range(count)]
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=Fraction(fps))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if codec == "libx264":
            fields = {"x264-params": "tff=1"} if interlaced else {}
            stream.codec_context.options = {
                "preset": "ultrafast", "crf": "4", **fields, **(options or {})
            }  # fmt: skip
        stream.thread_count = 1
        time_base = Fraction(1, 90000) if times else 1 / Fraction(fps)
        stream.codec_context.time_base = time_base
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn or hflip or vflip:
            stream.set_display_rotation(turn, hflip=hflip, vflip=vflip)
        write_sound = _add_sound(out, chirps(sound, 44100), 44100, "aac") if sound else None
        for place, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(
                format=pix_fmt,
                dst_colorspace="ITU709" if matrix == 1 else "ITU601",
                dst_color_range="MPEG",
            )
            frame.pts = round(times[place] * 90000) if times else place
            frame.time_base = time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if write_sound:
            write_sound()
    return path


def silent_film(path: Path) -> Path:
    """A video container with sound and nothing to see."""
    with av.open(str(path), "w") as out:
        _add_sound(out, chirps(0.5, 44100), 44100, out.default_audio_codec)()
    return path


def truncated_mp4(path: Path) -> Path:
    """Cut in the middle, its index (at the end) lost."""
    return cut(path, video(path.with_name("whole-" + path.name), 25), 0.6)


def truncated_faststart_mp4(path: Path) -> Path:
    """Cut in the middle, its index in front: half of the frames are there."""
    whole = video(
        path.with_name("whole-" + path.name),
        50,
        options={"g": "5"},
        container_options={"movflags": "+faststart"},
    )
    return cut(path, whole, 0.6)

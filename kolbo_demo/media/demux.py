"""Open other people's video and audio files safely: what `media` and `engine.video` share.

Files are hostile. A container is opened only if it is one of `FORMATS`, and only the local file
itself is read: a playlist renamed to .mp4 can reach neither the network nor another file.
"""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeVar

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from kolbo_demo.media.sniff import UNREADABLE, MediaError

FORMATS = (
    "mov,matroska,avi,mpeg,mpegvideo,mpegts,flv,asf,ogg,"
    "wav,w64,aiff,caf,au,mp3,aac,loas,flac,amr,ac3,eac3,dts,dtshd,truehd,mlp,gsm,wv,tta,ape,"
    "mpc,mpc8,voc"
)
"""libavformat's demuxers that may be used; none of them opens a second file."""

CODECS = (
    # video: what cameras, phones, browsers, editors and archives write
    "h264,hevc,libdav1d,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,msmpeg4v2,"
    "msmpeg4,h263,flv,theora,mpeg1video,mpeg2video,wmv1,wmv2,wmv3,vc1,"
    "mjpeg,prores,dnxhd,dvvideo,ffv1,png,"
    # sound: of the web, of discs and television, of phones, of archives
    "aac,aac_latm,als,mp3,mp3float,mp2,mp2float,mp1,mp1float,opus,libopus,vorbis,speex,"
    "ac3,eac3,dca,truehd,mlp,s302m,pcm_bluray,pcm_dvd,"
    "amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,gsm,gsm_ms,g722,g723_1,g726,g726le,g729,"
    "ilbc,qcelp,evrc,nellymoser,"
    "flac,alac,wavpack,tta,ape,mpc7,mpc8,wmav1,wmav2,wmapro,wmavoice,wmalossless,"
    "adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_swf,adpcm_yamaha,adpcm_sbpro_2,adpcm_sbpro_3,"
    "adpcm_sbpro_4,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s8_planar,pcm_u16le,pcm_u16be,pcm_s16le,pcm_s16be,"
    "pcm_s16le_planar,pcm_s16be_planar,pcm_u24le,pcm_u24be,pcm_s24le,pcm_s24be,pcm_s24le_planar,"
    "pcm_u32le,pcm_u32be,pcm_s32le,pcm_s32be,pcm_s32le_planar,pcm_s64le,pcm_s64be,"
    "pcm_f16le,pcm_f24le,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)
"""libavcodec's decoders that may be used, of more than 500: those that nobody has looked after for
years are where the holes are."""

_ALPHA_DECODERS: dict[str, Literal["libvpx", "libvpx-vp9"]] = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""libavcodec's decoders of these leave transparency out."""

PROTECTED = ("drms", "drmi", "enca", "encv", "aavd")
"""Codec tags of MP4 for what is encrypted."""

MIN_SIDE = 32
"""Pixels. Smaller pictures hold no face that could be found."""

MAX_VIDEO_PIXELS = 4096 * 2304
"""Pixels a frame: 4K of cinemas and of television. More is refused before it is decoded."""

STANDARD_RATES = tuple(
    Fraction(rate) for rate in ("10", "12", "12.5", "15", "20", "24", "25", "30", "48", "50", "60")
) + tuple(Fraction(rate * 1000, 1001) for rate in (15, 24, 30, 48, 60))

MIN_FPS = 12
"""Lips cannot be followed at fewer frames a second: slower clips get a whole multiple of theirs."""

MAX_FPS = 120

MAX_GAP = 600
"""Seconds. A longer time between two frames is a damaged time stamp, not a still picture."""

THREADS = 2
"""Threads of one decoder or encoder. More of them slow each other down on small machines."""

UNTAGGED = 2
"""Of a clip's colours, where the file does not say."""

COLOURS_UNREAD = {11: "Y'D'zD'x", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
"""Values of matrix_coefficients in ITU-T H.273 that are refused."""

NO_VIDEO = "The file holds no picture that can be shown: choose a picture or a video."
NO_AUDIO = "The file holds no sound: choose a recording, or a video with sound."


@dataclass(frozen=True)
class Timeline:
    """When the frames of a clip are shown, on a constant grid."""

    start: int
    """Presentation time of the first frame, in units of the stream's `time_base`."""
    time_base: Fraction
    """Seconds a unit."""
    fps: Fraction
    frame_count: int
    """Frames of the grid, not of the file."""
    keyframes: np.ndarray
    """Seconds, ascending: where decoding may begin, as the file says."""
    variable: bool = False
    """Whether the file's own frames are not evenly spread."""

    def keyframe_after(self, seconds: float) -> float:
        """The first keyframe later than `seconds`, in seconds; infinity where there is none."""
        place = int(np.searchsorted(self.keyframes, seconds, "right"))
        return float(self.keyframes[place]) if place < len(self.keyframes) else math.inf


def open_media(path: Path, **more: str) -> InputContainer:
    """Open a local file for reading, use as a context manager. `more` are options of libavformat's.
    Raises MediaError."""
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        "codec_whitelist": CODECS,
        "max_pixels": str(MAX_VIDEO_PIXELS),
        **more,
    }
    try:
        try:
            return _opened(f"file:{path.absolute()}", options)
        except FFmpegError:  # its name may have promised another format: without one, bytes count
            with path.open("rb") as file:
                return _opened("fd:", {**options, "protocol_whitelist": "fd"}, file.fileno())
    except (FFmpegError, ValueError, OSError) as error:
        raise MediaError(UNREADABLE) from error


def _opened(url: str, options: dict[str, str], descriptor: int | None = None) -> InputContainer:
    if descriptor is not None:
        options = {**options, "fd": str(descriptor)}  # which FFmpeg duplicates
    container = av.open(url, "r", options=options, metadata_errors="replace")
    for stream in container.streams.audio:
        _name_channels_plainly(stream.codec_context)
    return container


def _name_channels_plainly(context: AudioCodecContext) -> None:
    """PyAV 18 frees the names of channels in an order of the file's own each time that a layout is
    looked at, so such a layout is looked at once, and replaced before its names are used again."""
    layout = context.layout
    count, name = layout.nb_channels, layout.name
    if name.startswith((f"{count} channels (", "ambisonic")):
        context.layout = f"{count} channels"


def video_stream(container: InputContainer) -> VideoStream:
    """The clip's picture, cover art not counted. Raises MediaError if none can be decoded."""
    shown = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not shown:
        raise MediaError(NO_VIDEO)
    # Some covers do not say that they are.
    shown = [stream for stream in shown if stream.frames != 1] or shown
    best = container.streams.best("video")
    stream = best if best in shown else shown[0]
    assert isinstance(stream, VideoStream)
    check_codec(stream)
    check_video_size(stream.codec_context.width, stream.codec_context.height)
    check_colours(stream.codec_context)
    stream.codec_context.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
    stream.thread_type = "AUTO"
    stream.thread_count = THREADS
    return stream


def check_video_size(width: int, height: int) -> None:
    """Raise MediaError unless a frame of so many pixels can be used."""
    if min(width, height) < MIN_SIDE:
        raise MediaError(
            f"The video is only {width}x{height} pixels: choose one of at least "
            f"{MIN_SIDE} pixels a side."
        )
    if width * height > MAX_VIDEO_PIXELS:
        raise MediaError(
            f"The video is {width}x{height} pixels, larger than 4K: scale it down and try again."
        )


def check_codec(stream: Stream) -> None:
    """Raise MediaError unless a stream can be decoded."""
    context = stream.codec_context
    protected = context is not None and _tag(context) in PROTECTED
    if context is None or protected or context.codec.name not in CODECS.split(","):
        again = "as WAV or MP3" if stream.type == "audio" else "as MP4 with H.264 and AAC"
        raise MediaError(
            f"The file {'has copy protection' if protected else 'is packed with a codec'} that "
            f"cannot be read here: save it again {again}, and choose the new copy."
        )


def check_colours(coded: VideoFrame | VideoCodecContext) -> None:
    """Raise MediaError where it cannot be told which colours a clip's numbers mean."""
    name = COLOURS_UNREAD.get(int(coded.colorspace))
    if coded.color_trc == coded.color_primaries == UNTAGGED and _is_dolby_vision(coded):
        name = "Dolby Vision profile 5"  # others have a picture that any player can show
    if name:
        raise MediaError(
            f"The clip's colours are coded in a way that cannot be read here ({name}): "
            "export it in SDR, as MP4 with H.264."
        )


def _is_dolby_vision(coded: VideoFrame | VideoCodecContext) -> bool:
    if isinstance(coded, VideoFrame):
        return "DOVI_METADATA" in coded.side_data
    return _tag(coded) in ("dvh1", "dvhe", "dav1")


def _tag(context: CodecContext) -> str:
    try:
        return context.codec_tag
    except UnicodeDecodeError:  # PyAV's: some are numbers
        return ""


FrameT = TypeVar("FrameT", VideoFrame, AudioFrame)


def decode_video(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order they are shown. Damaged ones are left out."""
    decoder = _ALPHA_DECODERS.get(stream.codec_context.codec.name)
    if decoder is None or not any(key.lower() == "alpha_mode" for key in stream.metadata):
        return _decode(container, stream)
    context = CodecContext.create(decoder, "r")
    context.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
    context.thread_count = stream.codec_context.thread_count
    return _decode(container, stream, context)


def decode_audio(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Sound, piece by piece. Damaged pieces are left out."""
    return _decode(container, stream)


def _decode(
    container: InputContainer, stream: Stream, decoder: VideoCodecContext | None = None
) -> Iterator:
    for packet in packets(container, stream):
        try:
            frames = decoder.decode(packet) if decoder else packet.decode()
        except FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, VideoFrame | AudioFrame) and not frame.is_corrupt:
                yield frame


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """Packets of streams, the empty ones that flush decoders last."""
    found = container.demux(*streams)
    while True:
        try:
            packet = next(found)
        except (StopIteration, FFmpegError):  # at damage: what came before still counts
            return
        yield packet


def read_timeline(container: InputContainer, stream: VideoStream) -> Timeline:
    """Read all presentation times, decoding nothing, and lay a constant frame rate over them.

    Headers are not trusted: a file that was cut short still promises its whole length.
    """
    stamps, keys = array("q"), array("q")
    untimed = 0
    for packet in packets(container, stream):
        if packet.size == 0 or packet.is_discard:
            continue
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            untimed += 1
        else:
            stamps.append(stamp)
            if packet.is_keyframe:
                keys.append(stamp)
    if not stamps and not untimed:
        raise MediaError(UNREADABLE)
    time_base = stream.time_base or Fraction(1, 1000)
    times = np.unique(np.frombuffer(stamps, np.int64)) if stamps else np.zeros(1, np.int64)
    hint = stream.base_rate or stream.average_rate
    if untimed > len(times):  # formats that tell a rate but no times
        own = hint or Fraction(25)
        duration = (untimed + len(stamps)) / own
        variable = False
    else:
        times = _longest_run(times, MAX_GAP / float(time_base))
        seconds = (times - times[0]) * float(time_base)
        own = steady_rate(seconds, hint)
        duration = float(seconds[-1]) + 1 / own
        variable = not _even(seconds)
    fps = usable_rate(own)
    keyframes = np.unique((np.frombuffer(keys, np.int64) - times[0]) * float(time_base))
    count = max(1, round(duration * fps))
    return Timeline(int(times[0]), time_base, fps, count, keyframes, variable)


def _longest_run(times: np.ndarray, gap: float) -> np.ndarray:
    return max(np.split(times, np.flatnonzero(np.diff(times) > gap) + 1), key=len)


def _even(seconds: np.ndarray) -> bool:
    """Whether frames shown at these times stay within one interval of an even spread."""
    if len(seconds) < 2:
        return True
    interval = float(seconds[-1]) / (len(seconds) - 1)
    return float(np.ptp(seconds - np.arange(len(seconds)) * interval)) < interval


def steady_rate(seconds: np.ndarray, hint: Fraction | None = None) -> Fraction:
    """The constant rate, frames a second, that suits frames shown at these times (ascending).

    An even clip keeps its own rate; an uneven one gets that of its faster frames. `hint` is what
    the header says: it settles doubts that coarse time stamps leave.
    """
    if len(seconds) < 2:
        return hint or Fraction(25)
    interval = float(seconds[-1]) / (len(seconds) - 1)
    tolerance = 0.0015
    if not _even(seconds):
        interval = float(np.percentile(np.diff(seconds), 25))
        tolerance = 0.03
        if hint and abs(float(hint) * interval - 1) < tolerance:
            return hint
    nearest = min(STANDARD_RATES, key=lambda rate: abs(float(rate) * interval - 1))
    if abs(float(nearest) * interval - 1) < tolerance:
        return nearest
    return Fraction(1 / interval).limit_denominator(1001)


def usable_rate(fps: Fraction) -> Fraction:
    """`fps`, or the whole multiple or fraction of it that lies in `MIN_FPS` to `MAX_FPS`."""
    if fps <= 0:
        return Fraction(25)
    while fps > MAX_FPS:
        fps /= 2
    return fps * math.ceil(MIN_FPS / fps)


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture: rows and columns swapped first, then mirrored."""

    swapped: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """What the display matrix of a frame asks for; as it lies where there is none."""
        if "DISPLAYMATRIX" not in frame.side_data:
            return cls()
        matrix = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)
        # A stored point (x, y) is shown at (a x + c y, b x + d y); only quarter turns are honoured.
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(swapped=False, flip_x=a < 0, flip_y=d < 0)
        return cls(swapped=True, flip_x=c < 0, flip_y=b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Upright width and height of a stored picture."""
        return (height, width) if self.swapped else (width, height)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """The upright picture of stored rows (H, W, 3), as a view."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def square_size(stream: VideoStream) -> tuple[int, int]:
    """Stored width and height of a clip once its pixels are square; no pixel is thrown away."""
    width, height = stream.codec_context.width, stream.codec_context.height
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 4) <= aspect <= 4:  # nonsense in the header
        return width, height
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)

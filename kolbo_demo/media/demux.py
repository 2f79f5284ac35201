"""Open and decode untrusted video and audio files.

A container is opened only if it is one of `FORMATS`, and only the local file itself is read: a
playlist renamed to .mp4 can reach neither the network nor another file.
"""

import contextlib
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

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

from kolbo_demo.media.limits import (
    MAX_FPS,
    MAX_FRAME_GAP_SECONDS,
    MAX_VIDEO_PIXELS,
    MIN_FPS,
    MIN_SIDE,
)
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
"""libavcodec's decoders that may be used, of more than 500: unmaintained ones are a risk."""

_ALPHA_DECODERS: dict[str, Literal["libvpx", "libvpx-vp9"]] = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that support transparency, by codec whose default decoder does not."""

ENCRYPTED_TAGS = ("drms", "drmi", "enca", "encv", "aavd")
"""MP4 codec tags of encrypted streams."""

STANDARD_FRAME_RATES = tuple(
    Fraction(rate) for rate in ("10", "12", "12.5", "15", "20", "24", "25", "30", "48", "50", "60")
) + tuple(Fraction(rate * 1000, 1001) for rate in (15, 24, 30, 48, 60))

CODEC_THREADS = 2
"""Threads of one decoder or encoder. More are slower on small machines."""

UNSPECIFIED = 2
"""The value in ITU-T H.273 for colours that a file does not specify."""

UNSUPPORTED_MATRICES = {11: "Y'D'zD'x", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
"""Values of matrix_coefficients in ITU-T H.273 that are not converted."""

NO_VIDEO = "The file holds no picture that can be shown: choose a picture or a video."
NO_AUDIO = "The file holds no sound: choose a recording, or a video with sound."


@dataclass(frozen=True)
class Timeline:
    """Constant frame rate of a clip, and its position in stream time."""

    start: int
    """Presentation time of the first frame, in units of the stream's `time_base`."""
    time_base: Fraction
    """Seconds a unit."""
    fps: Fraction
    frame_count: int
    """Frames at `fps`, not of the file."""
    keyframes: np.ndarray
    """Seconds, ascending, as the file declares them."""
    variable_frame_rate: bool = False
    """Whether the file's own frames are unevenly spaced."""

    def keyframe_after(self, seconds: float) -> float:
        """Seconds of the first keyframe after `seconds`; infinity if there is none."""
        index = int(np.searchsorted(self.keyframes, seconds, "right"))
        return float(self.keyframes[index]) if index < len(self.keyframes) else math.inf


def open_media(path: Path, **options: str) -> InputContainer:
    """Open a local file for reading, as a context manager. `options` are libavformat's. Raises
    MediaError."""
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        "codec_whitelist": CODECS,
        "max_pixels": str(MAX_VIDEO_PIXELS),
        **options,
    }
    try:
        try:
            return _open(f"file:{path.absolute()}", options)
        except FFmpegError:  # without a name, libavformat probes the content alone
            with path.open("rb") as file:  # FFmpeg duplicates the descriptor
                by_descriptor = {"protocol_whitelist": "fd", "fd": str(file.fileno())}
                return _open("fd:", options | by_descriptor)
    except (FFmpegError, ValueError, OSError) as error:
        raise MediaError(UNREADABLE) from error


def _open(url: str, options: dict[str, str]) -> InputContainer:
    container = av.open(url, "r", options=options, metadata_errors="replace")
    for stream in container.streams.audio:
        _replace_custom_layout(stream.codec_context)
    return container


def _replace_custom_layout(context: AudioCodecContext) -> None:
    """Replace a layout with channel names: PyAV 18 frees them each time that it is read."""
    layout = context.layout
    count, name = layout.nb_channels, layout.name
    if name.startswith((f"{count} channels (", "ambisonic")):
        context.layout = f"{count} channels"


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream that is not cover art. Raises MediaError if it cannot be decoded."""
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise MediaError(NO_VIDEO)
    # Some cover art lacks the flag, but has one frame.
    streams = [stream for stream in streams if stream.frames != 1] or streams
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    assert isinstance(stream, VideoStream)
    check_codec(stream)
    check_video_size(stream.codec_context.width, stream.codec_context.height)
    check_colours(stream.codec_context)
    stream.codec_context.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
    stream.thread_type = "AUTO"
    stream.thread_count = CODEC_THREADS
    return stream


def check_video_size(width: int, height: int) -> None:
    """Raise MediaError if frames of this size are not supported."""
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
    """Raise MediaError if a stream cannot be decoded."""
    context = stream.codec_context
    protected = context is not None and _tag(context) in ENCRYPTED_TAGS
    if context is None or protected or context.codec.name not in CODECS.split(","):
        again = "as WAV or MP3" if stream.type == "audio" else "as MP4 with H.264 and AAC"
        raise MediaError(
            f"The file {'has copy protection' if protected else 'is packed with a codec'} that "
            f"cannot be read here: save it again {again}, and choose the new copy."
        )


def check_colours(coded: VideoFrame | VideoCodecContext) -> None:
    """Raise MediaError if a clip's colours cannot be converted."""
    name = UNSUPPORTED_MATRICES.get(int(coded.colorspace))
    if coded.color_trc == coded.color_primaries == UNSPECIFIED and _is_dolby_vision(coded):
        name = "Dolby Vision profile 5"  # other profiles have a compatible base layer
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
    except UnicodeDecodeError:  # raised by PyAV for numeric tags
        return ""


def decode_video(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in presentation order, without damaged ones."""
    decoder = _ALPHA_DECODERS.get(stream.codec_context.codec.name)
    if decoder is None or not any(key.lower() == "alpha_mode" for key in stream.metadata):
        return _decode(container, stream)
    context = CodecContext.create(decoder, "r")
    context.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
    context.thread_count = stream.codec_context.thread_count
    return _decode(container, stream, context)


def decode_audio(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Audio frames, without damaged ones."""
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
    """Packets of streams up to the first damage, with the empty ones that flush decoders."""
    with contextlib.suppress(FFmpegError):
        yield from container.demux(*streams)


def read_timeline(container: InputContainer, stream: VideoStream) -> Timeline:
    """Fit a constant frame rate to the presentation times of all packets, without decoding.

    The header's duration is not used: a truncated file still declares the whole. Raises MediaError.
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
    if untimed > len(times):  # formats with a rate but no time stamps
        own = hint or Fraction(25)
        duration = (untimed + len(stamps)) / own
        variable = False
    else:
        times = _longest_run(times, MAX_FRAME_GAP_SECONDS / float(time_base))
        seconds = (times - times[0]) * float(time_base)
        own = constant_frame_rate(seconds, hint)
        duration = float(seconds[-1]) + 1 / own
        variable = not _is_even(seconds)
    fps = output_frame_rate(own)
    keyframes = np.unique((np.frombuffer(keys, np.int64) - times[0]) * float(time_base))
    count = max(1, round(duration * fps))
    return Timeline(int(times[0]), time_base, fps, count, keyframes, variable)


def _longest_run(times: np.ndarray, gap: float) -> np.ndarray:
    return max(np.split(times, np.flatnonzero(np.diff(times) > gap) + 1), key=len)


def _is_even(seconds: np.ndarray) -> bool:
    """Whether times deviate from even spacing by less than one interval."""
    if len(seconds) < 2:
        return True
    interval = float(seconds[-1]) / (len(seconds) - 1)
    return float(np.ptp(seconds - np.arange(len(seconds)) * interval)) < interval


def constant_frame_rate(seconds: np.ndarray, hint: Fraction | None = None) -> Fraction:
    """Constant frame rate that fits ascending presentation times.

    An even clip keeps its rate; an uneven one gets that of its faster frames. `hint` is the rate in
    the header, which resolves coarse time stamps.
    """
    if len(seconds) < 2:
        return hint or Fraction(25)
    interval = float(seconds[-1]) / (len(seconds) - 1)
    tolerance = 0.0015
    if not _is_even(seconds):
        interval = float(np.percentile(np.diff(seconds), 25))
        tolerance = 0.03
        if hint and abs(float(hint) * interval - 1) < tolerance:
            return hint
    nearest = min(STANDARD_FRAME_RATES, key=lambda rate: abs(float(rate) * interval - 1))
    if abs(float(nearest) * interval - 1) < tolerance:
        return nearest
    return Fraction(1 / interval).limit_denominator(1001)


def output_frame_rate(fps: Fraction) -> Fraction:
    """`fps`, or its multiple or fraction within `MIN_FPS` to `MAX_FPS`."""
    if fps <= 0:
        return Fraction(25)
    while fps > MAX_FPS:
        fps /= 2
    return fps * math.ceil(MIN_FPS / fps)


@dataclass(frozen=True)
class Orientation:
    """One of eight orientations: rows and columns swapped first, then mirrored."""

    swapped: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """The orientation by the display matrix of a frame; the identity if it has none."""
        if "DISPLAYMATRIX" not in frame.side_data:
            return cls()
        matrix = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)
        # Stored (x, y) is shown at (a x + c y, b x + d y); only quarter turns are supported.
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
    """Width and height of a clip, not rotated, upsampled to square pixels."""
    width, height = stream.codec_context.width, stream.codec_context.height
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 4) <= aspect <= 4:  # invalid
        return width, height
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)

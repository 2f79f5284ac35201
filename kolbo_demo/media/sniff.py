"""Recognise files by their first bytes, without loading a decoder."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MediaKind = Literal["image", "video", "audio"]

VIDEO_EXTENSIONS = frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v"})
"""A `source_url` whose path ends so is a video; anything else is an image."""

UNREADABLE = (
    "The file cannot be read: it is damaged, cut short or in an unknown format. "
    "Save it again as MP4, or as WAV if it is a recording, and choose the new copy."
)
UNREADABLE_SOUND = (
    "The recording cannot be read: it is damaged, cut short or in an unknown format. "
    "Save it again as WAV or MP3, and choose the new copy."
)


class MediaError(ValueError):
    """A file that cannot be used. The message states the problem and what to do."""


@contextmanager
def as_recording() -> Iterator[None]:
    """Say of a recording that cannot be read what to save it as."""
    try:
        yield
    except MediaError as error:
        raise MediaError(str(error).replace(UNREADABLE, UNREADABLE_SOUND)) from error


@dataclass(frozen=True)
class MediaInfo:
    """Properties of a media file."""

    kind: MediaKind
    format: str
    """Short name of the file format, such as `jpeg`, `mp4`, `wav`."""
    bytes: int
    width: int | None = None
    height: int | None = None
    """Upright, with square pixels."""
    duration: float | None = None
    """Readable seconds, whatever the header declares; None for pictures."""
    fps: float | None = None
    has_audio: bool = False
    variable_frame_rate: bool = False
    silent: bool = False
    """Of a recording: whether it has no audible sound."""
    notes: tuple[str, ...] = ()
    """Of a recording: which track or channel is the voice, if there was a choice."""


_HEAD_BYTES = 4096

_MAGIC: tuple[tuple[bytes, MediaKind, str], ...] = (
    (rb"\xff\xd8\xff", "image", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "image", "png"),
    (rb"GIF8[79]a", "image", "gif"),
    (rb"RIFF.{4}WEBP", "image", "webp"),
    (rb"BM.{12}[\x0c-\x7c]\0\0\0", "image", "bmp"),
    (rb"II\*\0.{4}CR|II(RO|RS|U\0)|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM|.{4}ftypcrx ", "image", "raw"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "image", "tiff"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "image", "jxl"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "image", "jp2"),
    (rb"II\xbc\x01", "image", "jxr"),
    (rb"8BP[SB]", "image", "psd"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "image", "ico"),
    (rb"icns", "image", "icns"),
    (rb"qoif", "image", "qoi"),
    (rb"P[1-7fF]\s", "image", "pnm"),
    (rb"#\?RADIANCE|#\?RGBE", "image", "hdr"),
    (rb"\x76\x2f\x31\x01", "image", "exr"),
    (rb"gimp xcf", "image", "xcf"),
    (rb"DDS ", "image", "dds"),
    (rb"BPG\xfb", "image", "bpg"),
    (rb"AT&TFORM", "image", "djvu"),
    (rb"\x0a[\0-\x05]\x01[\x01-\x08]", "image", "pcx"),
    (
        rb".(\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]\0\0..[\x0f-\x20]).{8}[\x08\x0f\x10\x18\x20][\0-\x3f]",
        "image",
        "tga",
    ),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "image", "eps"),
    (rb"%PDF-", "image", "pdf"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.*?|<!--.*?)?<(!DOCTYPE )?svg[\s>]", "image", "svg"),
    (rb".{4}ftyp(avi[fs]|mif1.{4}(?:.{4})*?avif)", "image", "avif"),
    (rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", "image", "heic"),
    (rb".{4}ftypM4[ABP] ", "audio", "m4a"),
    (rb".{4}ftypqt  |[\0-\x0f].{3}(moov|mdat|wide|free|skip|pnot)", "video", "mov"),
    (rb".{4}ftyp", "video", "mp4"),
    (rb"\x1a\x45\xdf\xa3(?!.*V_).*A_", "audio", "webm"),
    (rb"\x1a\x45\xdf\xa3.{0,60}webm", "video", "webm"),
    (rb"\x1a\x45\xdf\xa3", "video", "mkv"),
    (rb"RIFF.{4}AVI ", "video", "avi"),
    (rb"\0\0\x01[\xba\xb3]", "video", "mpeg"),
    (rb"(\x47.{187}){3}|(.{4}\x47.{187}){3}", "video", "ts"),
    (rb"FLV\x01", "video", "flv"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video", "asf"),
    (rb"OggS.*\x80theora", "video", "ogg"),
    (rb"OggS", "audio", "ogg"),
    (rb"(RIFF|RIFX|RF64).{4}WAVE|riff\x2e\x91\xcf\x11", "audio", "wav"),
    (rb"ID3[\x02-\x04]|\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]", "audio", "mp3"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "audio", "aac"),
    (rb"fLaC", "audio", "flac"),
    (rb"FORM.{4}AIF[FC]", "audio", "aiff"),
    (rb"caff\0\x01", "audio", "caf"),
    (rb"#!AMR", "audio", "amr"),
    (rb"\x0b\x77", "audio", "ac3"),
    (rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\0|\xff\x1f\0\xe8|DTSHDHDR", "audio", "dts"),
    (rb".{4}\xf8\x72\x6f[\xba\xbb]", "audio", "mlp"),
    (rb"\x56[\xe0-\xff].\x20", "audio", "latm"),
    (rb"\.snd", "audio", "au"),
    (rb"wvpk", "audio", "wv"),
    (rb"TTA[12]", "audio", "tta"),
    (rb"MAC ", "audio", "ape"),
    (rb"MP\+|MPCK", "audio", "mpc"),
    (rb"Creative Voice File\x1a", "audio", "voc"),
)
"""Signature, kind and format; the first match counts. A file that matches none may still be audio
that demuxers recognise."""

_NOT_MEDIA = [(re.compile(magic, re.DOTALL), what) for magic, what in (
    (rb"MThd|RIFF.{4}RMID", "a MIDI file (notes without their sound)"),
    (rb".{4}ftypaaxc?|.{4}\x57\x90\x75\x36", "an audiobook with copy protection"),
    (rb"\.ra\xfd|\.RMF", "in RealMedia"),
    (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01", "in MXF"),
    (rb"\0\0\0?\x01[\x27\x40\x42\x67]|\x1f\x07\0[\x3f\xbf]|YUV4MPEG2|DKIF",
     "a video without a container"),
    (rb"[CFZ]WS[\x01-\x40]", "a Flash animation"),
    (rb"DSD |FRM8", "in DSD"),
    (rb"IMPM|Extended Module: |.{44}SCRM|.{1080}M[.!]K[.!]", "a tracker module"),
    (rb"PK\x03\x04.*word/", "a Word document"),
    (rb"PK\x03\x04.*(xl/|ppt/|mimetypeapplication/)", "a document"),
    (rb"\xd0\xcf\x11\xe0|\{\\rtf|%PDF-", "a document"),
    (rb"PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|\x1f\x8b\x08|BZh|\xfd7zXZ|.{257}ustar",
     "an archive"),
    (rb"MZ.{58}|\x7fELF|\xcf\xfa\xed\xfe", "a program"),
    (rb"SQLite format 3", "a database, or a project of an editor"),
    (rb"wOF[F2]|OTTO\0|\x00\x01\x00\x00\x00[^\x00]", "a font"),
    (rb"(\xef\xbb\xbf)?\s*(WEBVTT|\d+\r?\n\d\d:\d\d:\d\d[,.]|\[Script Info)", "subtitles"),
    (rb"(\xef\xbb\xbf)?\s*(#EXTM3U|\[playlist\])", "a playlist, which only names recordings"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!doctype html|<html)", "a web page"),
)]  # fmt: skip
"""Signatures of files without a supported picture, video or audio, and a description."""

_CONVERT = "cannot be read here: save it as JPEG or PNG and choose that."
UNSUPPORTED_PICTURES = {
    "raw": "Raw pictures of cameras (NEF, CR3, ARW, DNG and the like) cannot be read here: "
    "export it as JPEG and choose that.",
    "jxl": f"JPEG XL pictures {_CONVERT}",
    "jp2": f"JPEG 2000 pictures {_CONVERT}",
    "jxr": f"JPEG XR pictures {_CONVERT}",
    "psd": f"Photoshop documents {_CONVERT}",
    "ico": f"Icons {_CONVERT}",
    "icns": f"Icons {_CONVERT}",
    "hdr": f"Radiance pictures {_CONVERT}",
    "exr": f"OpenEXR pictures {_CONVERT}",
    "xcf": f"GIMP documents {_CONVERT}",
    "dds": f"DirectDraw surfaces {_CONVERT}",
    "bpg": f"BPG pictures {_CONVERT}",
    "djvu": f"DjVu documents {_CONVERT}",
    "pcx": f"PCX pictures {_CONVERT}",
    "tga": f"Targa pictures {_CONVERT}",
    "qoi": f"QOI pictures {_CONVERT}",
    "pnm": f"PNM pictures {_CONVERT}",
    "eps": f"PostScript pictures {_CONVERT}",
    "pdf": "PDF documents are no pictures: save the page as JPEG or PNG and choose that.",
    "svg": f"SVG drawings {_CONVERT}",
}
"""Message for each picture format that is recognised and not supported."""

_PATTERNS: list[tuple[re.Pattern[bytes], MediaKind, str]] = [
    (re.compile(magic, re.DOTALL), kind, name) for magic, kind, name in _MAGIC
]


def kind_of(path: Path) -> MediaKind | None:
    """Kind of a file by its first bytes; None if unknown. Raises OSError.

    A video container counts as video even if it may contain only audio.
    """
    sniffed = sniff(Path(path))
    return sniffed[0] if sniffed else None


def sniff(path: Path) -> tuple[MediaKind, str] | None:
    """Kind and short name of the format, such as `jpeg`; None if unknown. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, kind, name in _PATTERNS:
        if magic.match(head):
            return kind, name
    return None


def describe_non_media(path: Path) -> str | None:
    """Description of a file that is no media file, such as "an archive"; None if unknown. Raises
    OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(b"PK\x03\x04"):  # which lists its files at the end
            file.seek(max(len(head), file.seek(0, 2) - 4 * _HEAD_BYTES))
            head += file.read()
    for magic, what in _NOT_MEDIA:
        if magic.match(head):
            return what
    for coding in ("utf-8", "utf-16"):
        if coding == "utf-16" and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        text = head.decode(coding, "ignore")
        if len(text.encode(coding)) >= len(head) - 3 and all(
            letter.isprintable() or letter.isspace() for letter in text.lstrip("\ufeff")
        ):
            return "a text"
    return None


def not_audio_message(what: str) -> str:
    """Error message for a voice that `describe_non_media` describes as `what`."""
    return (
        f"The file is {what}, no sound recording that can be read: "
        "save the recording as WAV or MP3 and choose that."
    )


def is_truncated(path: Path) -> bool:
    """Whether an MP4 or MOV file ends inside a box (ISO/IEC 14496-12, 4.2); False for other
    formats. Raises OSError."""
    if (sniff(path) or (None, ""))[1] not in {"mp4", "mov", "m4a"}:
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4])
            if length == 0:  # extends to the end of the file
                return False
            if length == 1:
                length = int.from_bytes(head[8:16])
            if length < 8:
                return False
            at += length
    return at > size

"""Media that mean harm: playlists in disguise, bombs, and damage by the hundred."""

import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.media import make_voice
from tests import samples

INSIDE = re.compile(
    r"Traceback|site-packages|kolbo_demo[./]|sqlite|\.py\b|/tmp/|Errno|0x[0-9a-f]{8}"
)
"""What no answer may tell."""

SOUNDS = frozenset({".wav", ".mp3", ".ogg", ".flac", ".m4a", ".opus"})


# Playlists


def _hls(target: str) -> bytes:
    return (f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n").encode()


def _hls_key(target: str) -> bytes:
    return (
        '#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-KEY:METHOD=AES-128,URI="'
        f'{target}"\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n'
    ).encode()


def _concat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\nduration 1\n".encode()


def _dash(target: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ).encode()


def _sdp(target: str) -> bytes:
    return b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"


def _svg(target: str) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><image href="{target}" '
        'width="99" height="99"/></svg>'
    ).encode()


def _avi_gab2(target: str) -> bytes:
    """A playlist as the subtitle of an AVI, which once was read as a file of its own."""
    hidden = _hls(target)
    subtitle = b"GAB2\0\x02\0" + struct.pack("<I", 0) + b"\4\0" + struct.pack("<I", len(hidden))
    chunk = subtitle + hidden
    header = b"LIST" + struct.pack("<I", 4) + b"hdrl"
    movie = b"LIST" + struct.pack("<I", 12 + len(chunk)) + b"movi" + b"00tx"
    body = b"AVI " + header + movie + struct.pack("<I", len(chunk)) + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _mov_reference(target: str) -> bytes:
    """A QuickTime film that says its media lie elsewhere."""

    def atom(name: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">I", len(content) + 8) + name + content

    url = atom(
        b"rdrf", bytes(4), b"url ", struct.pack(">I", len(target) + 1), target.encode(), b"\0"
    )
    return atom(b"ftyp", b"qt  ", bytes(4), b"qt  ") + atom(
        b"moov", atom(b"rmra", atom(b"rmda", url))
    )


def _after_magic(target: str) -> bytes:
    """Behind the first bytes of an MP3."""
    return b"ID3\x04\0\0\0\0\0\0" + _hls(target)


PLAYLISTS = [
    _hls, _hls_key, _concat, _dash, _sdp, _svg, _avi_gab2, _mov_reference, _after_magic,
]  # fmt: skip


# Bombs


def slow_jpeg(path: Path, side: int = 6900, scans: int = 20_000) -> Path:
    """Progressive; each scan says in a few bytes that it changes no block, and each is read."""
    blocks = ((side + 7) // 8) ** 2

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    def table(kind: int, symbol: int) -> bytes:
        """A Huffman table of one code, a zero bit."""
        return segment(0xC4, bytes([kind, 1, *bytes(15), symbol]))

    def bits(text: str) -> bytes:
        text += "1" * (-len(text) % 8)
        data = int(text, 2).to_bytes(len(text) // 8)
        return data.replace(b"\xff", b"\xff\0")

    runs, rest = divmod(blocks, 0x7FFF)
    skip = ("0" + "1" * 14) * runs  # 0x7FFF blocks without a change
    skip += ("0" + "1" * 14) if rest else ""
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0x00])) + bits("0" * blocks)
    more = segment(0xDA, bytes([1, 1, 0, 1, 63, 0x00])) + bits(skip)
    frame = struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])
    path.write_bytes(
        b"\xff\xd8"
        + segment(0xDB, bytes([0, *[1] * 64]))
        + segment(0xC2, frame)
        + table(0x00, 0)
        + first
        + table(0x10, 0xE0)
        + more * scans
        + b"\xff\xd9"
    )
    return path


def huge_avi(path: Path) -> Path:
    """Its header and every frame promise 16000x16000 pixels."""
    data = bytearray(samples.video(path, 3, codec="mjpeg", pix_fmt="yuvj420p").read_bytes())
    place = data.index(b"strf") + 12
    data[place : place + 8] = struct.pack("<ii", 16_000, 16_000)
    for found in re.finditer(rb"\xff\xc0\0\x11\x08", bytes(data)):
        data[found.end() : found.end() + 4] = struct.pack(">HH", 16_000, 16_000)
    path.write_bytes(data)
    return path


def huge_pictures(folder: Path) -> Iterator[Path]:
    """Small files that promise 30000x30000 pixels."""
    side = 30_000
    for suffix in ("gif", "bmp", "tiff", "webp"):
        path = folder / f"huge.{suffix}"
        Image.new("L" if suffix != "webp" else "RGB", (64, 64)).save(path)
        data = bytearray(path.read_bytes())
        match suffix:
            case "gif":
                data[6:10] = struct.pack("<HH", side, side)
            case "bmp":
                data[18:26] = struct.pack("<ii", side, side)
            case "tiff":
                for tag in (256, 257):
                    place = data.index(struct.pack("<H", tag), 8)
                    data[place : place + 12] = struct.pack("<HHII", tag, 4, 1, side)
            case "webp":
                place = data.index(b"\x9d\x01\x2a") + 3
                data[place : place + 4] = struct.pack("<HH", 16_383, 16_383)
        path.write_bytes(data)
        yield path


def endless_amr(path: Path, hours: int) -> Path:
    """Frames of one byte, each 20 ms of nothing."""
    path.write_bytes(b"#!AMR\n" + b"\x7c" * (hours * 3600 * 50))
    return path


# Damage


def _whole(folder: Path) -> list[Path]:
    """Small files of every common kind, from the shipped portrait and voice."""
    with Image.open(samples.PORTRAIT) as image:
        face = image.convert("RGB").resize((96, 96))
    found = []
    for suffix in ("jpg", "png", "webp", "gif", "bmp", "tiff", "avif"):
        found.append(folder / f"whole.{suffix}")
        face.save(found[-1])
    face.save(folder / "whole-2.jpg", progressive=True, exif=_exif(), icc_profile=bytes(200))
    found.append(folder / "whole-2.jpg")
    for name, codec in (("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"),
                        ("mkv", "libx264"), ("mov", "mjpeg")):  # fmt: skip
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        sound = 0.2 if name in ("mp4", "mkv") else 0.0
        path = folder / f"whole.{name}"
        found.append(samples.video(path, 6, width=64, height=64, codec=codec, pix_fmt=pix_fmt,
                                   sound=sound))  # fmt: skip
    found.append(make_voice(folder / "whole.wav", 0.2))
    for suffix in ("mp3", "ogg", "flac", "m4a"):
        found.append(samples.recording(folder / f"whole.{suffix}", 0.3, 16_000))
    return found


def _exif() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


_COUNTS = [
    bytes.fromhex(digits) for digits in ("ffffffff", "7fffffff", "00000000", "00000001", "80000000")
]


def _damage(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One of the ways in which files go bad, or are made bad."""
    out = bytearray(data)
    end = len(out)

    def place() -> int:
        """Headers are hit more often than what they describe."""
        return chance.randrange(min(end, 400) if chance.random() < 0.5 else end)

    match chance.randrange(8):
        case 0:
            for _ in range(chance.randint(1, 40)):
                out[place()] = chance.randrange(256)
        case 1:
            for _ in range(chance.randint(1, 8)):
                out[place()] ^= 1 << chance.randrange(8)
        case 2:
            del out[chance.randrange(1, end) :]
        case 3:  # lengths and counts that promise too much or less than nothing
            at = place()
            out[at : at + 4] = chance.choice(_COUNTS)
        case 4:
            at, size = place(), chance.randrange(1, end)
            del out[at : at + size]
        case 5:
            at = place()
            out[at:at] = out[at : at + chance.randrange(1, 2000)] * chance.randint(1, 20)
        case 6:
            at = place()
            out[at:] = other[chance.randrange(len(other)) :]
        case 7:
            at = place()
            out[at : at + chance.randrange(1, 600)] = chance.randbytes(chance.randrange(1, 600))
    return bytes(out)


def damaged(folder: Path, count: int, seed: int = 2026) -> Iterator[Path]:
    """So many files, the same ones each time."""
    chance = random.Random(seed)
    whole = _whole(folder)
    contents = [path.read_bytes() for path in whole]
    for number in range(count):
        kind = number % len(whole)
        data = contents[kind]
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            data = _damage(data or b"\0", chance.choice(contents), chance)
        path = folder / f"{number}{whole[kind].suffix}"
        path.write_bytes(data)
        yield path


def bounds(pid: int) -> dict[str, str]:
    """What the system lets a process use at most, by the names that it has for that."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:47].strip() for line in lines}

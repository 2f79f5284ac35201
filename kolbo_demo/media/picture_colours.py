"""Colours of pictures: sRGB of 8 bits, whatever they are stored as."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from kolbo_demo.media import frame_colours
from kolbo_demo.media.picture_metadata import PictureFile

_SRGB_GAMMA = 0.45455
_SRGB_POINTS = (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
"""x and y of white, red, green and blue."""
_POWERS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Of light, by the numbers of transfers of ITU-T H.273; others are taken for sRGB's curve."""
_D50 = np.array([0.9642, 1, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _curve(kind: int, *numbers: float) -> bytes:
    """A parametric curve of ICC.1:2010, 10.18."""
    fixed = (max(min(round(number * 65536), 2**31 - 1), 0) for number in numbers)
    return struct.pack(f">4sIHH{len(numbers)}i", b"para", 0, kind, 0, *fixed)


def _power(gamma: float) -> bytes:
    return _curve(0, min(max(gamma, 0.2), 10))


_SRGB_CURVE = _curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def srgb(image: Image.Image, file: PictureFile) -> Image.Image:
    """RGB of sRGB on white, by what the file says of its colours as far as that is sound. Adds to
    the file's notes."""
    hdr = file.coding if file.coding and frame_colours.is_hdr(file.coding[1]) else None
    profile = None if hdr else file.profile or image.info.get("icc_profile") or _told(file)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.mode in ("1", "P", "PA", "LA", "La", "RGBa") or image.has_transparency_data:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha:
        image = image.convert("RGB")
    shown = _by_profile(image, profile) or _plain(image)
    if hdr:
        shown = Image.fromarray(frame_colours.shown(np.asarray(shown), *hdr))
        file.notes.append(frame_colours.NO_HDR)
    if alpha and alpha.getextrema() != (255, 255):
        file.notes.append(frame_colours.NO_ALPHA)
        shown = Image.composite(shown, Image.new("RGB", shown.size, "white"), alpha)
    return shown


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, target, outputMode="RGB") or image
    return image.convert("RGB")


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """None where a profile is missing, broken or for other colours: the picture is good without."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = getattr(source.profile, "xcolor_space", "").strip()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}.get(space)
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        elif mode == "L" and image.mode == "RGB" and _is_grey(image):
            image = image.convert("L")
        if image.mode != mode:
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, LookupError):
        return None


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats as 8 bits: Pillow itself would cut off what is bright."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    brightest = float(values.max(initial=0.0))
    scales = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0, brightest]
    if image.mode == "F":
        scales.insert(0, 1.0)
    full = next(scale for scale in scales if brightest <= scale)
    return Image.fromarray(np.clip(values * (255.0 / full), 0, 255).astype(np.uint8))


def _told(file: PictureFile) -> bytes | None:
    """A profile for colours that a file tells by numbers; None where they are sRGB, or nonsense."""
    if file.coding:
        points = (*_SRGB_POINTS[:2], *np.ravel(frame_colours.WIDE.get(file.coding[0], ())))
        points = points if len(points) == len(_SRGB_POINTS) else _SRGB_POINTS
        curve = _power(_POWERS[file.coding[1]]) if file.coding[1] in _POWERS else _SRGB_CURVE
        known = points == _SRGB_POINTS and curve == _SRGB_CURVE
    elif file.gamma:
        points = file.chromaticities or _SRGB_POINTS
        known = np.allclose([file.gamma, *points], [_SRGB_GAMMA, *_SRGB_POINTS], atol=0.01)
        curve = _power(1 / file.gamma)
    else:
        return None
    return None if known else _display_profile(points, curve)


def _display_profile(points: tuple[float, ...], curve: bytes) -> bytes | None:
    """ICC.1:2001-04, of x and y of white, red, green and blue; None where they are nonsense."""
    if min(points[1::2]) <= 0:
        return None
    white, *primaries = (
        np.array([x / y, 1, (1 - x - y) / y])
        for x, y in zip(points[::2], points[1::2], strict=True)
    )
    columns = np.stack(primaries, 1)
    try:
        rgb = columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError:
        return None
    adapted = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    columns = (adapted @ _BRADFORD @ rgb).T
    if not np.isfinite(columns).all() or np.abs(columns).max() > 4:
        return None
    tags = [(b"wtpt", _xyz(_D50))]
    for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags += [(name + b"XYZ", _xyz(column)), (name + b"TRC", curve)]
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    return head + bytes(12) + b"acsp" + bytes(28) + _xyz(_D50)[8:] + bytes(48) + table + body


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))

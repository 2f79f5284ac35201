"""Convert pictures of any mode and colour space to 8-bit sRGB."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from kolbo_demo.media import frame_colours
from kolbo_demo.media.picture_metadata import PictureFile

_SRGB_GAMMA = 0.45455
_SRGB_POINTS = (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
"""x and y of white, red, green and blue."""
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
"""By transfer code point of ITU-T H.273; others are treated as the sRGB curve."""
_D50 = np.array([0.9642, 1, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _parametric_curve(kind: int, *numbers: float) -> bytes:
    """A parametricCurveType (ICC.1:2010, 10.18)."""
    fixed = (max(min(round(number * 65536), 2**31 - 1), 0) for number in numbers)
    return struct.pack(f">4sIHH{len(numbers)}i", b"para", 0, kind, 0, *fixed)


def _gamma_curve(gamma: float) -> bytes:
    return _parametric_curve(0, min(max(gamma, 0.2), 10))


_SRGB_CURVE = _parametric_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def to_srgb(image: Image.Image, file: PictureFile) -> Image.Image:
    """sRGB on white, by the colour information of the file as far as it is valid. Adds to the
    file's notes."""
    hdr = file.cicp if file.cicp and frame_colours.is_hdr(file.cicp[1]) else None
    profile = None
    if not hdr:
        profile = file.profile or image.info.get("icc_profile") or _profile_from_tags(file)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image)
    elif image.mode in ("1", "P", "PA", "LA", "La", "RGBa") or image.has_transparency_data:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha:
        image = image.convert("RGB")
    rgb = _convert_with_profile(image, profile) or _convert_without_profile(image)
    if hdr:
        rgb = Image.fromarray(frame_colours.to_bt709(np.asarray(rgb), *hdr))
        file.notes.append(frame_colours.HDR_NOTE)
    if alpha and alpha.getextrema() != (255, 255):
        file.notes.append(frame_colours.ALPHA_NOTE)
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return rgb


def _convert_without_profile(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, target, outputMode="RGB") or image
    return image.convert("RGB")


def _convert_with_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """None if the profile is missing, broken or for another mode; the picture is usable without."""
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


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16 or 32-bit or float grey as 8 bits; Pillow's own conversion clips."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    brightest = float(values.max(initial=0.0))
    scales = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0, brightest]
    if image.mode == "F":
        scales.insert(0, 1.0)
    full = next(scale for scale in scales if brightest <= scale)
    return Image.fromarray(np.clip(values * (255.0 / full), 0, 255).astype(np.uint8))


def _profile_from_tags(file: PictureFile) -> bytes | None:
    """A profile for the colour tags of a file; None if they are sRGB or invalid."""
    if file.cicp:
        points = (*_SRGB_POINTS[:2], *np.ravel(frame_colours.WIDE_PRIMARIES.get(file.cicp[0], ())))
        points = points if len(points) == len(_SRGB_POINTS) else _SRGB_POINTS
        curve = _gamma_curve(_GAMMAS[file.cicp[1]]) if file.cicp[1] in _GAMMAS else _SRGB_CURVE
        is_srgb = points == _SRGB_POINTS and curve == _SRGB_CURVE
    elif file.gamma:
        points = file.chromaticities or _SRGB_POINTS
        is_srgb = np.allclose([file.gamma, *points], [_SRGB_GAMMA, *_SRGB_POINTS], atol=0.01)
        curve = _gamma_curve(1 / file.gamma)
    else:
        return None
    return None if is_srgb else _display_profile(points, curve)


def _display_profile(points: tuple[float, ...], curve: bytes) -> bytes | None:
    """An ICC.1:2001-04 profile for x and y of white, red, green, blue; None if they are invalid."""
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
    tags = [(b"wtpt", _xyz_tag(_D50))]
    for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags += [(name + b"XYZ", _xyz_tag(column)), (name + b"TRC", curve)]
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    return head + bytes(12) + b"acsp" + bytes(28) + _xyz_tag(_D50)[8:] + bytes(48) + table + body


def _xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))

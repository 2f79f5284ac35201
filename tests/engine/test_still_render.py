"""Renders of kinds of pictures: lips in sync, mouth colours of the picture, the rest unchanged. All
kinds are derived from the sample portrait."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine.head_pose import (
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    Head,
    Pose,
)
from kolbo_demo.engine.landmarks import FaceLandmarker, detect_speaker, track_face
from kolbo_demo.engine.mouth_shape import MouthShape
from kolbo_demo.engine.mouth_warp import MouthWarp
from kolbo_demo.engine.render import render
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.voices import speak
from tests import samples
from tests.engine import synthetic_people as people
from tests.engine.lip_measurements import measure_lips

SIDE = 384
Picture = np.ndarray
SKIN = (50, 280, 205, 425)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice") / "words.wav"
    speak("Papa.", path)
    return path


@pytest.fixture(scope="module")
def toothy() -> Picture:
    """The portrait's head and shoulders."""
    whole = Image.open(samples.PORTRAIT).convert("RGB").crop((96, 0, 352, 256))
    return np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def closed(toothy: Picture, tmp_path_factory: pytest.TempPathFactory) -> Picture:
    """The same person with closed lips, from a render of silence."""
    folder = tmp_path_factory.mktemp("closed")
    Image.fromarray(toothy).save(folder / "source.png")
    render(folder / "source.png", samples.silent_wav(folder / "silent.wav", 0.04), folder / "o.mp4")
    with Clip(folder / "o.mp4") as clip:
        return next(clip.frames(1))


@pytest.fixture(scope="module")
def usual(closed: Picture, words: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Mouth opening of each frame on the plain picture."""
    folder = tmp_path_factory.mktemp("usual")
    Image.fromarray(closed).save(folder / "source.png")
    render(folder / "source.png", words, folder / "o.mp4")
    return measure_lips(folder / "o.mp4").aperture


def points_of(picture: Picture) -> np.ndarray:
    return detect_speaker(picture, FaceLandmarker(), None).points


def grey(picture: Picture) -> Picture:
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)


def lit(gain: float, gamma: float = 1.0) -> Callable[[Picture], Picture]:
    return lambda p: (np.clip(gain * (p / 255) ** gamma, 0, 1) * 255).astype(np.uint8)


def side_light(picture: Picture) -> Picture:
    ramp = np.clip(np.linspace(-0.5, 1.6, picture.shape[1]), 0.15, 1)[None, :, None]
    return (picture * ramp).astype(np.uint8)


def drawing(picture: Picture) -> Picture:
    """Flat colours, dark outlines. More lines than these hide the lips from the landmarker."""
    flat = cv2.bilateralFilter(picture, 9, 60, 9) // 24 * 24 + 12
    lines = cv2.Canny(cv2.GaussianBlur(picture, (0, 0), 2.2), 40, 90)
    return np.where(lines[..., None] > 0, 40, flat).astype(np.uint8)


def painting(picture: Picture) -> Picture:
    """Soft, yellowed, cracked."""
    soft = cv2.edgePreservingFilter(picture, flags=1, sigma_s=20, sigma_r=0.3)
    cracks = np.random.default_rng(2).normal(0, 7, (*picture.shape[:2], 1))
    return np.clip(soft * (0.85, 0.72, 0.42) + cracks, 0, 255).astype(np.uint8)


def statue(picture: Picture) -> Picture:
    """White stone, the eyes' colours gone."""
    stone = grey(cv2.GaussianBlur(picture, (0, 0), 1)).astype(float)
    return np.clip(0.55 * stone + 105, 0, 255).astype(np.uint8)


def hair(picture: Picture, where: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Picture:
    """Dark hair over the part of the face that `where` selects, in eye distances from the mouth."""
    points = points_of(picture)
    unit = np.linalg.norm(points[33, :2] - points[263, :2])
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    seam = points[[13, 14], :2].mean(0)
    part = where((x - seam[0]) / unit, (y - seam[1]) / unit).astype(np.float32)
    rings = points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2]
    cv2.fillPoly(part, [np.rint(rings).astype(np.int32)], 0)
    part = cv2.GaussianBlur(part, (0, 0), 1)[..., None]
    strands = np.random.default_rng(4).normal(45, 16, (*picture.shape[:2], 1))
    return np.clip(picture * (1 - part) + part * strands, 0, 255).astype(np.uint8)


def moustache(picture: Picture) -> Picture:
    return hair(picture, lambda x, y: (np.abs(x) < 0.33) & (y < 0) & (y > -0.14 + 0.2 * x * x))


def beard(picture: Picture) -> Picture:
    def around(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.hypot(x / 0.62, (y - 0.1) / 0.52) < 1) & (y > -0.16) & ((np.abs(x) > 0.3) | (y > 0.05))  # fmt: skip  # noqa: E501

    return hair(picture, around)


def lipstick(picture: Picture) -> Picture:
    points = points_of(picture)
    mask = np.zeros(picture.shape[:2], np.float32)
    rings = points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2]
    cv2.fillPoly(mask, [np.rint(rings).astype(np.int32)], 0.7)
    return (picture * (1 - mask[..., None]) + mask[..., None] * (150, 10, 40)).astype(np.uint8)


def glasses(picture: Picture) -> Picture:
    points = points_of(picture)
    out = picture.copy()
    unit = float(np.linalg.norm(points[33, :2] - points[263, :2]))
    centres = [points[list(pair), :2].mean(0) for pair in ((33, 133), (263, 362))]
    for centre in centres:
        cv2.circle(out, tuple(int(v) for v in centre), int(0.27 * unit), (25, 20, 20), 4)
    return out


def old(picture: Picture) -> Picture:
    """Pale, with deep creases."""
    deep = picture + 1.6 * (picture.astype(float) - cv2.GaussianBlur(picture, (0, 0), 2.5))
    pale = deep.mean(2, keepdims=True)
    return np.clip(0.5 * deep + 0.5 * pale + 12, 0, 255).astype(np.uint8)


def child(picture: Picture) -> Picture:
    """A large forehead over a small, short lower face."""
    height = picture.shape[0]
    rows = np.arange(height) / height
    source = (rows + 0.06 * np.sin(np.pi * rows)) * height
    y = np.repeat(source[:, None], picture.shape[1], 1).astype(np.float32)
    x = np.repeat(np.arange(picture.shape[1])[None], height, 0).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC)


def turned(yaw: float, pitch: float) -> Callable[[Picture], Picture]:
    return lambda p: people.turned(people.Shot(p, points_of(p)), yaw, pitch)[0]


def rolled(picture: Picture) -> Picture:
    size = picture.shape[0]
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), 28, 1)
    return cv2.warpAffine(picture, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)


def sized(side: int) -> Callable[[Picture], Picture]:
    return lambda picture: cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)


KINDS: dict[str, Callable[[Picture], Picture]] = {
    "closed": lambda p: p,
    "black and white": grey,
    "statue": statue,
    "drawing": drawing,
    "painting": painting,
    "dark skin": lit(0.75, 1.9),
    "light skin": lit(1.0, 0.6),
    "side light": side_light,
    "moustache": moustache,
    "beard": beard,
    "lipstick": lipstick,
    "glasses": glasses,
    "old": old,
    "child": child,
    "yaw": turned(35, 0),
    "pitch": turned(0, 18),
    "yaw and pitch": turned(-25, -15),
    "roll": rolled,
    "60 pixels": sized(146),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_picture_is_animated(
    kind: str, closed: Picture, usual: np.ndarray, words: Path, tmp_path: Path
):
    source = np.ascontiguousarray(KINDS[kind](closed))
    check_animation(source, usual, words, tmp_path)


def test_toothy_smile_is_animated(toothy: Picture, usual: np.ndarray, words: Path, tmp_path: Path):
    check_animation(toothy, usual, words, tmp_path)


def test_closed_lips_show_nothing_of_the_open_mouth(toothy: Picture, words: Path, tmp_path: Path):
    """The open mouth is filled with green: closing lips show none of it."""
    source = toothy.copy()
    ring = points_of(source)[[*UPPER_INNER, *LOWER_INNER[::-1]], :2]
    cv2.fillPoly(source, [np.rint(ring).astype(np.int32)], (20, 230, 20))
    Image.fromarray(source).save(tmp_path / "source.png")
    render(tmp_path / "source.png", words, tmp_path / "out.mp4")
    with Clip(tmp_path / "out.mp4") as clip:
        for frame in clip.frames():
            red, green, blue = frame.astype(int).transpose(2, 0, 1)
            assert int((green - np.maximum(red, blue)).max()) < 8


def test_lips_meet_for_two_frames_in_papa(usual: np.ndarray):
    opened = np.flatnonzero(usual > 0.5 * usual.max())
    between = usual[opened[0] : opened[-1] + 1] < 0.012
    assert (between[1:] & between[:-1]).any()


def test_fast_lips_are_blurred_along_their_motion(
    closed: Picture, usual: np.ndarray, words: Path, tmp_path: Path
):
    source, (x, y, x_end, y_end) = closed.copy(), lower_lip(points_of(closed))
    rows = np.arange(y - 8, y_end + 8)
    source[rows, x - 8 : x_end + 8] = np.where(rows % 4 < 2, 110, 190)[:, None, None]
    Image.fromarray(source).save(tmp_path / "source.png")
    render(tmp_path / "source.png", words, tmp_path / "o.mp4")
    contrast = []
    with Clip(tmp_path / "o.mp4") as clip:
        for rgb, face in track_face(clip.frames(), FaceLandmarker(), None):
            assert face is not None
            x, y, x_end, y_end = lower_lip(face.points)
            contrast.append(np.abs(np.diff(rgb[y:y_end, x:x_end].astype(float), 2, axis=0)).mean())
    speed = np.abs(np.gradient(usual))
    opened = usual > 0.3 * usual.max()
    fast, slow = (
        np.array(contrast)[opened & near]
        for near in (speed > 0.5 * speed.max(), speed < 0.2 * speed.max())
    )
    assert np.mean(fast) < 0.75 * np.mean(slow)


def lower_lip(points: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the lower lip's middle."""
    (x, y), (x_end, y_end) = points[[87, 14], :2].min(0), points[[317, 17], :2].max(0)
    return round(float(x)), round(float(y)) + 2, round(float(x_end)) + 1, round(float(y_end))


def test_slightly_parted_lips_close_without_teeth(words: Path, tmp_path: Path):
    """The landmarker takes these lips for closed, while teeth show between them."""
    source = np.array(Image.open(samples.ASSETS / "gallery" / "hopper.jpg").convert("RGB"))
    points = points_of(source)[:, :2]
    seam = points[[191, 80, 81, 82, 13, 312, 311, 310, 415]]
    down = 0.011 * np.linalg.norm(points[33] - points[263]) * np.array([0, 1])
    teeth = np.rint(np.concatenate([seam[1:-1] - down, (seam[1:-1] + down)[::-1]])).astype(int)
    cv2.polylines(source, [teeth], True, (100, 35, 30), 2, cv2.LINE_AA)
    cv2.fillPoly(source, [teeth], (215, 200, 180), cv2.LINE_AA)
    assert pale_share(source) > 0.01
    Image.fromarray(source).save(tmp_path / "source.png")
    render(tmp_path / "source.png", words, tmp_path / "out.mp4")
    shown = measure_lips(tmp_path / "out.mp4").aperture
    with Clip(tmp_path / "out.mp4") as clip:
        frames = list(clip.frames())
    for index in np.argsort(shown)[:3]:
        assert pale_share(frames[index]) < 0.002


def pale_share(picture: Picture) -> float:
    """Share of the lips' area, seen from the front, that is as pale as teeth."""
    points = points_of(picture)[:, :2]
    mask = np.zeros(picture.shape[:2], np.uint8)
    ring = points[[*UPPER_OUTER, *LOWER_OUTER[::-1]]]
    cv2.fillPoly(mask, [np.rint(ring + 0.25 * (ring.mean(0) - ring)).astype(np.int32)], 1)
    red, green, blue = picture[mask > 0].astype(float).T
    return float((red - (green + blue) / 2 < 0.35 * red).mean())


def test_tilted_head_blinks_with_both_eyes(closed: Picture, tmp_path: Path):
    height, width = closed.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 28, 1.0)
    tilted = cv2.warpAffine(closed, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    Image.fromarray(np.asarray(tilted, np.uint8)).save(tmp_path / "source.png")
    quiet = samples.silent_wav(tmp_path / "quiet.wav", 2.4)
    render(tmp_path / "source.png", quiet, tmp_path / "out.mp4")
    with Clip(tmp_path / "out.mp4") as clip:
        points = [
            face.points[:, :2]
            for _, face in track_face(clip.frames(), FaceLandmarker(), None)
            if face
        ]
    for above, below in ((159, 145), (386, 374)):
        open_by = np.array([np.linalg.norm(p[above] - p[below]) for p in points])
        assert open_by.min() < 0.4 * np.median(open_by)


def test_smile_crease_fades_while_lips_are_round(closed: Picture, tmp_path: Path):
    source = closed.copy()
    points = points_of(source)[:, :2]
    unit = float(np.linalg.norm(points[33] - points[263]))
    for corner, side in ((61, -1), (291, 1)):
        x, y = points[corner] + (side * 0.08 * unit, -0.06 * unit)
        ends = np.rint([(x - side * 3, y - 7), (x + side * 3, y + 7)]).astype(int)
        shade = source[ends[0][1], ends[0][0]] * 0.72
        cv2.line(source, ends[0], ends[1], shade.tolist(), 2, cv2.LINE_AA)
    Image.fromarray(source).save(tmp_path / "source.png")
    speak("Who knew? You two do.", tmp_path / "round.wav")
    render(tmp_path / "source.png", tmp_path / "round.wav", tmp_path / "out.mp4")
    width = measure_lips(tmp_path / "out.mp4").width
    with Clip(tmp_path / "out.mp4") as clip:
        frames = list(clip.frames())
    assert crease(frames[int(width.argmin())]) < 0.5 * crease(frames[int(width.argmax())])


def crease(picture: Picture) -> float:
    """Depth of the darkest narrow line beside the mouth's corners, in grey levels."""
    points = points_of(picture)[:, :2]
    unit = float(np.linalg.norm(points[33] - points[263]))
    grey_levels = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    lines = cv2.morphologyEx(grey_levels, cv2.MORPH_BLACKHAT, kernel)
    depths = []
    for corner, side in ((61, -1), (291, 1)):
        x, y = np.rint(points[corner] + (side * 0.085 * unit, -0.06 * unit)).astype(int)
        depths.append(np.percentile(lines[y - 7 : y + 8, x - 6 : x + 7], 95))
    return float(np.mean(depths))


def test_face_of_1000_pixels_is_animated(closed: Picture, words: Path, tmp_path: Path):
    """Scaled down to what a still may have, it is drawn without holes."""
    Image.fromarray(closed[:320, 30:350]).resize((2400, 2400)).save(tmp_path / "source.jpg")
    short = samples.wav(tmp_path / "a.wav", samples.chirps(0.3, 16_000), 16_000)
    made = render(tmp_path / "source.jpg", short, tmp_path / "out.mp4")
    assert made.width > 1400
    assert measure_lips(tmp_path / "out.mp4").aperture.max() > 0


@pytest.mark.parametrize(
    ("jaw", "aperture", "width", "protrusion"),
    [(0, 10, 0, 0), (3, 12, 0, 0), (4, 20, 2, 0), (4, 13, -5, 1), (1, 3, -7, 1), (8, 20, 5, 0)],
)
def test_warp_has_no_folds(
    closed: Picture, toothy: Picture, jaw: float, aperture: float, width: float, protrusion: float
):
    """Each layer's rows stay in order in extreme shapes."""
    for picture in (closed, toothy):
        points = points_of(picture).astype(float)
        pose = Pose.from_landmarks(points)
        warp = MouthWarp(Head.at_rest(pose.unproject(points)))
        shape = MouthShape(jaw, aperture, width, protrusion, 0, 0, 0)
        layers = warp(picture, points, pose, shape)
        for layer in (layers.upper, layers.lower):
            assert np.diff(layer[..., 1], axis=0).min() > 0
            assert np.diff(layer[..., 0], axis=1).min() > 0


def check_animation(source: Picture, usual: np.ndarray, words: Path, folder: Path) -> None:
    Image.fromarray(source).save(folder / "source.png")
    render(folder / "source.png", words, folder / "out.mp4")
    shown = measure_lips(folder / "out.mp4").aperture
    assert np.ptp(shown) > 0.5 * np.ptp(usual), "the mouth opens"
    assert np.corrcoef(shown, usual)[0, 1] > 0.8, "in sync with the plain picture"
    with Clip(folder / "out.mp4") as clip:
        frames = list(clip.frames())
    wide = frames[int(shown.argmax())]
    inside = interior(wide)
    skin = colours_at(wide, SKIN).mean(0)
    light = inside.mean(1)
    assert np.percentile(light, 90) > 0.3 * skin.mean(), "teeth are visible"
    assert np.percentile(light, 98) < 1.5 * skin.mean() + 40, "teeth are not too bright"
    if np.ptp(source.astype(int), axis=2).max() < 3:
        assert np.ptp(inside, axis=1).max() < 16, "grey stays grey"
    height = source.shape[0]
    body = np.s_[: height // 20], np.s_[-height // 12 :]
    for rows in body:
        error = np.mean((wide[rows].astype(float) - source[rows][:, : wide.shape[1]]) ** 2)
        assert error < 120, "pixels far from the face are unchanged"


def interior(picture: Picture) -> np.ndarray:
    """Colours (n, 3) between the inner lips."""
    points = points_of(picture)
    ring = [78, 81, 13, 311, 308, 402, 14, 178]
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(points[ring, :2]).astype(np.int32)], 1)
    colours = picture[mask > 0].astype(float)
    assert len(colours) > 4
    return colours


def colours_at(picture: Picture, ids: tuple[int, ...]) -> np.ndarray:
    x, y = np.rint(points_of(picture)[list(ids), :2]).astype(int).T
    return picture[y, x].astype(float)


def test_open_mouth_shows_teeth_and_a_lit_tongue(words: Path, tmp_path: Path):
    """Photographs with closed lips: no dark band where people show teeth and tongue."""
    for name in ("hopper", "woman"):
        rows, skin = widest_mouth(samples.ASSETS / "gallery" / f"{name}.jpg", words, tmp_path)
        light = rows.mean((1, 2)) / skin.mean()
        redness = (rows[..., 0] - rows[..., 1:].mean(-1)).mean(1) / rows.mean((1, 2))
        teeth, tongue = slice(2, 5), slice(12, 17)
        assert light[teeth].mean() > 0.75, name
        assert light[tongue].mean() > 0.55, name
        assert redness[tongue].mean() > redness[teeth].mean() + 0.25, name
        assert (light < 0.25).mean() < 0.34, name


def test_only_photographs_get_single_teeth(words: Path, tmp_path: Path):
    """A drawing's teeth are one plain area."""
    uneven = {}
    for name in ("hopper", "cartoon"):
        rows, _ = widest_mouth(samples.ASSETS / "gallery" / f"{name}.jpg", words, tmp_path)
        row = rows[2:5].mean((0, 2))
        uneven[name] = row.std() / row.mean()
    assert uneven["cartoon"] < 0.02
    assert uneven["hopper"] > 2 * uneven["cartoon"]


def widest_mouth(source: Path, words: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colours (21, 15, 3) of the middle quarter of the widest mouth, from the upper lip's edge to
    the lower lip's; and the skin's (3,)."""
    render(source, words, folder / "out.mp4")
    with Clip(folder / "out.mp4") as clip:
        frames = list(clip.frames())
    shown = measure_lips(folder / "out.mp4").aperture
    wide = frames[int(shown.argmax())]
    points = points_of(wide)[:, :2]
    down = np.linspace(0, 1, 21)[:, None, None] * (points[14] - points[13])
    across = np.linspace(-0.12, 0.12, 15)[:, None] * (points[291] - points[61])
    x, y = np.moveaxis((points[13] + down + across).astype(np.float32), -1, 0)
    colours = cv2.remap(wide, x, y, cv2.INTER_LINEAR).astype(float)
    return colours, np.median(colours_at(wide, SKIN), axis=0)

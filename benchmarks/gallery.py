"""Pictures of renders of the gallery's sources, for README and `docs/gallery.md`.

`talking.webp` is the beginning of the painting's result; `lively.webp` shows a photograph with its
head held still, and beside it with natural motion. The contact sheets have twelve frames of the
face, and twelve consecutive ones of the mouth at twice its size, from the words "every pop of both
lips"; those of each kind of still have 24 frames of the whole picture.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.media import make_voice
from kolbo_demo.engine.landmarks import FaceLandmarker, detect_speaker
from kolbo_demo.engine.render import render
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.gallery import GALLERY
from kolbo_demo.options import Options

ASSETS = Path(__file__).parents[1] / "assets"
SPEECH = ASSETS / "speech.wav"
DOCS = Path(__file__).parents[1] / "docs"
FRAMES, COLUMNS = 12, 4
MOUTH_FIRST_FRAME = 100
STILLS = {
    "glasses": ("hopper.jpg",),
    "drawing": ("lovelace.jpg",),
    "painting": ("mona-lisa.jpg",),
    "cartoon": ("cartoon.jpg",),
    "statue": ("bust.jpg",),
    "figure": ("woman.jpg",),
    "two-faces": ("mona-lisa.jpg", "woman.jpg"),
    "tight-crop": ("hopper.jpg",),
}
"""Pictures of the gallery by kind of still; two stand side by side."""
TIGHT_CROP = (160, 128, 360, 328)
"""Left, top, right, bottom of the face in hopper.jpg; hat and chin touch the border."""
STILL_SECONDS, STILL_FRAMES, STILL_COLUMNS, STILL_WIDTH = 8, 24, 8, 150
"""Seconds and frames of each kind of still, columns, and pixels of a frame's width."""
FPS = 25
"""Of a still's video."""
ANIMATED_SECONDS = 5
ANIMATED_BOX, ANIMATED_SIZE = (32, 16, 352, 336), (384, 384)
"""The part of the result with its face, and its size in the picture."""
COMPARED, COMPARED_BOX, COMPARED_SIZE = GALLERY / "hopper.jpg", (80, 0, 480, 480), (200, 240)
"""Source, part of its frames, and the size of each half."""
JPEG_QUALITY = 82
"""Keeps each sheet under 400 kB."""


def measure() -> dict:
    """Write the sheets to `docs/`; returns their sizes in kB by name."""
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        with Clip(GALLERY / "mona-lisa-result.mp4") as clip:
            sizes["talking.webp"] = _animate(
                _cut(list(clip.frames()), ANIMATED_BOX, ANIMATED_SIZE), DOCS / "talking.webp"
            )
        sizes["lively.webp"] = _compare(Path(folder), DOCS / "lively.webp")
        for kind, source in (("still", "hopper.jpg"), ("clip", "man.mp4")):
            out = Path(folder) / "out.mp4"
            render(GALLERY / source, SPEECH, out)
            with Clip(out) as clip:
                frames = list(clip.frames())
            face_frames = np.linspace(0, len(frames) - 1, FRAMES).astype(int)
            mouth_frames = range(MOUTH_FIRST_FRAME, MOUTH_FIRST_FRAME + FRAMES)
            for part, chosen, above, below, aside, zoom in (
                ("face", face_frames, 1.35, 1.55, 1.25, 1),
                ("mouth", mouth_frames, 0.42, 0.5, 0.6, 2),
            ):
                face = detect_speaker(frames[0], FaceLandmarker(), None)
                eyes = float(np.linalg.norm(face.points[33, :2] - face.points[263, :2]))
                x, y = face.points[[61, 291], :2].mean(0) if part == "mouth" else face.points[4, :2]
                left, right = int(x - aside * eyes), int(x + aside * eyes)
                top, bottom = max(int(y - above * eyes), 0), int(y + below * eyes)
                tiles = [_tile(frames[i][top:bottom, left:right], zoom, i) for i in chosen]
                path = DOCS / f"{kind}-{part}.jpg"
                _write_sheet(tiles, path)
                sizes[path.name] = round(path.stat().st_size / 1000)
    return sizes | _write_stills()


def _write_stills() -> dict[str, int]:
    """Write a sheet of each kind of still; returns their sizes in kB by name."""
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        voice = make_voice(Path(folder) / "voice.wav", STILL_SECONDS)
        for kind, names in STILLS.items():
            picture, out = Path(folder) / "source.png", Path(folder) / "out.mp4"
            still = Image.fromarray(
                np.hstack([np.asarray(Image.open(GALLERY / name)) for name in names])
            )
            (still.crop(TIGHT_CROP) if kind == "tight-crop" else still).save(picture)
            render(picture, voice, out)
            with Clip(out) as clip:
                frames = list(clip.frames())
            chosen = np.linspace(0, len(frames) - 1, STILL_FRAMES).astype(int)
            zoom = STILL_WIDTH / frames[0].shape[1]
            path = DOCS / f"lively-{kind}.jpg"
            _write_sheet([_tile(frames[i], zoom, i) for i in chosen], path, STILL_COLUMNS)
            sizes[path.name] = round(path.stat().st_size / 1000)
    return sizes


def _compare(folder: Path, path: Path) -> int:
    """Write a still with its head held still, and with natural motion beside it. Returns the size
    in kB."""
    halves = []
    for prompt in ("still head, no blinking", None):
        render(COMPARED, SPEECH, folder / "out.mp4", Options(prompt=prompt))
        with Clip(folder / "out.mp4") as clip:
            halves.append(_cut(list(clip.frames()), COMPARED_BOX, COMPARED_SIZE))
    return _animate([np.hstack(pair) for pair in zip(*halves, strict=True)], path)


def _cut(
    frames: list[Pixels], box: tuple[int, int, int, int], size: tuple[int, int]
) -> list[Pixels]:
    return [np.asarray(Image.fromarray(frame).resize(size, box=box)) for frame in frames]


def _animate(frames: list[Pixels], path: Path) -> int:
    """Write the first seconds as an animated WebP. Returns its size in kB."""
    first, *others = map(Image.fromarray, frames[: ANIMATED_SECONDS * FPS : 2])
    duration = 2 * 1000 // FPS
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, quality=70)
    return round(path.stat().st_size / 1000)


def _tile(part: Pixels, zoom: float, number: int) -> Pixels:
    """A part of a frame, scaled, with the frame's number in its corner."""
    how = cv2.INTER_CUBIC if zoom >= 1 else cv2.INTER_AREA
    big = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=how)
    cv2.putText(big, str(number), (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 3)
    cv2.putText(big, str(number), (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    return np.asarray(big, np.uint8)


def _write_sheet(tiles: list[Pixels], path: Path, columns: int = COLUMNS) -> None:
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

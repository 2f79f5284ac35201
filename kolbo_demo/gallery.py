"""The page's finished results, each with the inputs that it was made from."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kolbo_demo.data_files import ASSETS

GALLERY = ASSETS / "gallery"
MANIFEST = GALLERY / "gallery.toml"
ROUTE = "gallery"
"""Path under which the page serves the folder."""
SHARE_PICTURE = GALLERY / "share.jpg"
"""Preview of links to the page: 1200x630."""


@dataclass(frozen=True)
class GalleryItem:
    """A result and its inputs."""

    id: str
    title: str
    """A name, or a few English words."""
    kind: str
    """photograph, painting, drawing, cartoon, statue, figure or clip."""
    source: Path
    voice: Path
    language: str
    """Of the voice: a code of ISO 639-1."""
    words: str
    """Transcript of the voice."""
    credit: str
    prompt: str = ""

    @property
    def result(self) -> Path:
        """The video: MP4, H.264 and AAC."""
        return GALLERY / f"{self.id}-result.mp4"

    @property
    def poster(self) -> Path:
        """The first frame of the video: WebP."""
        return GALLERY / f"{self.id}-poster.webp"

    @property
    def files(self) -> tuple[Path, Path, Path, Path]:
        """Source, voice, result and poster."""
        return self.source, self.voice, self.result, self.poster


@cache
def items() -> tuple[GalleryItem, ...]:
    """All items, in the order of the manifest."""
    rows = tomllib.loads(MANIFEST.read_text("utf-8"))["item"]
    return tuple(
        GalleryItem(**{**row, "source": GALLERY / row["source"], "voice": GALLERY / row["voice"]})
        for row in rows
    )

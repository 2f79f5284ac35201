"""Contents of a manifest: how a video was made, and from which files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kolbo_demo import __version__
from kolbo_demo.disclosure import COMMENT, MARK_TEXT

GENERATOR = "Kolbo Lipsync"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's type of "the compositing of trained algorithmic media with some other media, such as with
inpainting": the mouth is made by trained networks, the rest is the source."""
VISIBLE_MARK = "ai.kolbo.visible_mark"
"""Parameter of the action: whether MARK_TEXT is drawn into the picture."""
HASH_PREFIX = "sha256:"
TITLE = "AI-generated video"
FORMAT = "video/mp4"


@dataclass(frozen=True)
class Ingredient:
    """A file from which a video was made, without its name."""

    role: str
    """`source`, `voice`, `video`, or `left` and `right` of a side-by-side video."""
    sha256: str
    """Of its bytes, hexadecimal."""


@dataclass(frozen=True)
class Production:
    """How a video was made."""

    ingredients: tuple[Ingredient, ...]
    edited: bool
    """Whether the video is an edited version of the first ingredient, not a new one."""
    visible_mark: bool
    original: Path | None = None
    """The first ingredient's file, whose own manifest stays part of the new one."""

    def definition(self) -> dict[str, Any]:
        """The manifest, as the C2PA library takes it. It has no time, since that needs a time stamp
        authority to be believed, and would tell when a visitor used the page."""
        roles = [ingredient.role for ingredient in self.ingredients]
        action: dict[str, Any] = {
            "action": "c2pa.edited" if self.edited else "c2pa.created",
            "digitalSourceType": SOURCE_TYPE,
            "softwareAgent": {"name": GENERATOR, "version": __version__},
            "description": COMMENT,
            "parameters": {
                VISIBLE_MARK: MARK_TEXT if self.visible_mark else "",
                **({"ingredientIds": roles[self.edited :]} if roles[self.edited :] else {}),
            },
        }
        actions = [action]
        if self.edited:
            actions.insert(0, {"action": "c2pa.opened", "parameters": {"ingredientIds": roles[:1]}})
        return {
            "claim_generator_info": [{"name": GENERATOR, "version": __version__}],
            "title": TITLE,
            "format": FORMAT,
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "created": True,
                    "data": {"actions": actions, "allActionsIncluded": True},
                }
            ],
            "ingredients": [
                {
                    "title": ingredient.role,
                    "label": ingredient.role,
                    "instance_id": HASH_PREFIX + ingredient.sha256,
                    "relationship": "parentOf" if self.edited and not number else "inputTo",
                }
                for number, ingredient in enumerate(self.ingredients)
            ],
        }


def rendered(source: Path, voice: Path, *, clip: bool, visible_mark: bool) -> Production:
    """A render of the local engine. An edited clip is the clip with other lips; from a picture a
    new video is created."""
    files = {"source": source, "voice": voice}
    return Production(_hashed(files), clip, visible_mark)


def marked(video: Path, *, visible_mark: bool) -> Production:
    """A finished video of the cloud to which this program adds the mark or the metadata."""
    return Production(_hashed({"video": video}), True, visible_mark, video)


def combined(left: Path, right: Path, *, visible_mark: bool) -> Production:
    """A side-by-side video."""
    return Production(_hashed({"left": left, "right": right}), False, visible_mark)


def _hashed(files: dict[str, Path]) -> tuple[Ingredient, ...]:
    """Raises OSError."""
    return tuple(Ingredient(role, _sha256(path)) for role, path in files.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

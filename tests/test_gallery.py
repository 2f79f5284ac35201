"""The finished results of the page's gallery, their inputs and their credits."""

import hashlib
import re

import pytest
from PIL import Image

from kolbo_demo.gallery import GALLERY, MANIFEST, SHARE_PICTURE, GalleryItem, items
from kolbo_demo.preflight import Inspector

CREDITS = (GALLERY.parent / "CREDITS.md").read_text("utf-8")
HASHES = re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", CREDITS, re.MULTILINE)
MAX_BYTES = 4_000_000

each_item = pytest.mark.parametrize("item", items(), ids=lambda item: item.id)


@pytest.fixture(scope="module")
def inspector():
    inspector = Inspector()
    yield inspector
    inspector.close()


def test_items_differ_in_kind_and_language():
    assert len({item.kind for item in items()}) >= 6
    assert len({item.language for item in items()}) >= 3
    assert len({item.id for item in items()}) == len(items())


def test_each_file_belongs_to_an_item_and_all_are_small():
    files = set(GALLERY.iterdir())
    drawn = {path for path in files if path.suffix == ".svg"}
    assert {path.with_suffix(".jpg") for path in drawn} <= {item.source for item in items()}
    assert files - drawn - {MANIFEST, SHARE_PICTURE} == {
        path for item in items() for path in item.files
    }
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


@pytest.mark.parametrize(("name", "digest"), HASHES, ids=[name for name, _ in HASHES])
def test_credits_have_the_hash_of_each_file(name: str, digest: str):
    assert hashlib.sha256((GALLERY.parent / name).read_bytes()).hexdigest() == digest


def test_credits_name_each_input_of_the_gallery():
    inputs = {path for item in items() for path in (item.source, item.voice)}
    assert {f"gallery/{path.name}" for path in inputs} <= {name for name, _ in HASHES}


@each_item
def test_the_face_of_the_source_is_found(item: GalleryItem, inspector: Inspector):
    source, preview = inspector.inspect_source(item.source)
    assert (source.kind == "video") == (item.kind == "clip")
    [face] = preview.faces or []
    assert not face.hidden
    assert not face.small
    assert not face.sideways


@each_item
def test_the_result_says_the_voice(item: GalleryItem, inspector: Inspector):
    voice = inspector.inspect_voice(item.voice)
    result, preview = inspector.inspect_source(item.result)
    assert voice.speech
    assert voice.clipped < 0.001
    assert result.kind == "video"
    assert result.has_audio
    assert result.duration == pytest.approx(voice.duration, abs=0.1)
    assert len(preview.faces or []) == 1
    video = item.result.read_bytes()
    assert video.index(b"moov") < video.index(b"mdat"), "plays before it is loaded"
    with Image.open(item.poster) as poster:
        assert poster.size == (result.width, result.height)

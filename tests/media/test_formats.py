"""docs/formats.md names what the code takes and refuses, no more and no less."""

import re
from pathlib import Path

from kolbo_demo.media import demux, limits, picture, sniff

TEXT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
ONE_LINE = " ".join(TEXT.split())


def _listed(after: str) -> list[str]:
    return re.findall(r"`([^`]+)`", ONE_LINE.partition(after)[2].partition(". ")[0])


def test_the_demuxers_and_decoders_are_those_of_the_code() -> None:
    assert _listed("calls its demuxers:") == demux.FORMATS.split(",")
    of_clips, of_voices = _listed("calls its decoders:"), _listed("with the decoders")
    assert of_clips + of_voices == demux.CODECS.split(",")


def test_the_pictures_are_those_of_the_code() -> None:
    assert f"Taken: {', '.join(picture._FORMATS)}." in ONE_LINE
    assert f"at most {limits.MAX_PIXELS // 10**6} megapixels" in ONE_LINE
    assert f"baseline JPEG {limits.MAX_DRAFT_PIXELS // 10**6}" in ONE_LINE
    assert f"a WebP {limits.MAX_WEBP_PIXELS // 10**6} " in ONE_LINE


def test_what_is_refused_is_named() -> None:
    for name, message in sniff.UNSUPPORTED_PICTURES.items():
        assert f"| {name} | {message} |" in TEXT
    for _, what in sniff._NOT_MEDIA:
        assert f"- {what}\n" in TEXT

"""Clips as cameras, players and editors leave them."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media import probe, sandbox
from kolbo_demo.media.sniff import MediaError
from tests.wild.pictures import card, corners
from tests.wild.sounds import ffmpeg

STILL = ("-loop", 1, "-framerate", 25, "-t", 0.2, "-i")
H264 = ("-c:v", "libx264", "-crf", 3, "-pix_fmt", "yuv420p")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "card.png"
    card(128, 96).save(path)
    return path


def assert_card(path: Path, size: tuple[int, int] = (128, 96)) -> None:
    found = probe.inspect_source(path)
    assert (found.kind, found.width, found.height) == ("video", *size)
    with Clip(path) as clip:
        for frame in clip.frames():
            assert frame.shape == (*size[::-1], 3)
    shown = probe.frame_at(path)
    assert np.abs(corners(shown) - corners(card(128, 96))).max() < 8


@pytest.mark.parametrize(
    ("suffix", "flag"),
    [*product(("mp4", "mov"), ("attached_pic", "default", "0")), ("mkv", "attached_pic")],
)
def test_a_cover_before_the_picture(tmp_path: Path, picture: Path, suffix: str, flag: str) -> None:
    cover, path = tmp_path / "cover.jpg", tmp_path / f"clip.{suffix}"
    card(400, 400).rotate(180).save(cover)
    words = ("-c:v:0", "mjpeg", "-disposition:v:0", flag, "-c:v:1", "libx264", "-crf:v:1", 3)
    ffmpeg(
        "-i", cover, *STILL, picture, "-map", 0, "-map", 1, *words, "-pix_fmt:v:1", "yuv420p", path
    )
    assert_card(path)


KINDS: dict[str, tuple[object, ...]] = {
    "12 bits 4:4:4.mp4": ("-c:v", "libx265", "-pix_fmt", "yuv444p12le",
                          "-x265-params", "crf=4:log-level=none"),
    "full range.mp4": ("-vf", "scale=out_range=full", "-color_range", "pc", *H264),
    "stretched.webm": ("-vf", "scale=64:96,setsar=2", "-c:v", "libvpx-vp9", "-crf", 3),
    "stretched.avi": ("-vf", "scale=64:96,setsar=2", "-c:v", "mpeg4", "-q:v", 1),
    "stretched.mpg": ("-vf", "scale=64:96", "-aspect", "4/3", "-c:v", "mpeg2video", "-q:v", 1),
    "fragments.mp4": ("-movflags", "frag_keyframe+empty_moov", *H264),
    "dash.mp4": ("-movflags", "dash+empty_moov+default_base_moof", *H264),
    "cropped.mp4": ("-vf", "pad=160:112:16:8:red", *H264, "-bsf:v",
                    "h264_metadata=crop_left=16:crop_right=16:crop_top=8:crop_bottom=8"),
    "26 hours.ts": ("-output_ts_offset", 95443.6, *H264),
    "before zero.mkv": ("-output_ts_offset", -0.1, *H264),
    "live.webm": ("-c:v", "libvpx", "-crf", 4, "-b:v", "3M", "-live", 1),
    "time code.mov": ("-timecode", "01:00:00:00", *H264),
    "sparse.avi": ("-vf", "select=not(mod(n\\,2))", "-fps_mode", "vfr", *H264),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_clips_look_as_players_show_them(tmp_path: Path, picture: Path, name: str) -> None:
    path = tmp_path / name
    ffmpeg(*STILL, picture, *KINDS[name], path)
    assert_card(path)


def test_what_was_cut_off_is_not_shown(tmp_path: Path, picture: Path) -> None:
    """Editors and phones cut by a list of what is to be shown, and leave the rest in the file."""
    whole, path = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    later = "[0][1]overlay=enable=gte(t\\,1)"
    red = ("-f", "lavfi", "-i", "color=red:s=128x96:r=25:d=2")
    ffmpeg(*red, "-i", picture, "-filter_complex", later, "-g", 99, *H264, whole)
    ffmpeg("-ss", 1.2, "-i", whole, "-c", "copy", path)
    assert_card(path)
    found = probe.inspect_source(path)
    assert found.duration == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("camera.mxf", ("-c:v", "mpeg2video"), "in MXF"),
        ("raw.h264", H264, "a video without a container"),
        ("raw.y4m", ("-pix_fmt", "yuv420p"), "a video without a container"),
        ("raw.ivf", ("-c:v", "libvpx"), "a video without a container"),
        ("raw.swf", ("-c:v", "flv"), "a Flash animation"),
        ("old.mov", ("-c:v", "qtrle"), "codec that cannot be read here: save it again as MP4"),
        ("raw.avi", ("-c:v", "rawvideo"), "codec that cannot be read here: save it again as MP4"),
    ],
)
def test_what_is_no_clip_that_is_taken_is_named(
    tmp_path: Path, picture: Path, name: str, words: tuple[object, ...], told: str
) -> None:
    path = tmp_path / name
    ffmpeg(*STILL, picture, *words, path)
    with pytest.raises(MediaError, match=told):
        sandbox.inspect_source(path)

"""Recordings of every kind, given to the page."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tests import samples
from tests.browser.desk import Desk
from tests.wild.test_wild_sound import KINDS, RATE, ffmpeg, silence, speech, tracks

GIVEN = (
    *("a.webm", "a.mp4", "a.mov", "a.m4a", "a.3gp", "a.caf", "a.amr", "a.opus", "a.wma", "a.wv"),
    *("a.tta", "a.dts", "a.au", "a.mka", "a.ts", "pcm_mulaw.wav"),
)


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    return samples.wav(tmp_path / "speech.wav", speech()[None, :RATE], RATE)


def give(desk: Desk, path: Path) -> None:
    desk.tab("voice", "Audio")
    desk.page.set_input_files("#audio input[type=file]", path)


@pytest.mark.parametrize("kind", GIVEN)
def test_a_recording_is_taken_and_told(desk: Desk, tmp_path: Path, voice: Path, kind: str) -> None:
    path = tmp_path / kind
    ffmpeg("-i", voice, "-ac", 1, *KINDS[kind], path)
    give(desk, path)
    told = desk.page.locator("#preflight")
    expect(told).to_contain_text("0:01.")
    expect(told.locator(".warnings")).to_have_count(0)
    expect(desk.page.get_by_text("Invalid file type")).to_have_count(0)


def test_the_track_is_told(desk: Desk, tmp_path: Path) -> None:
    give(desk, tracks(tmp_path / "voice.mp4", silence(), speech()))
    expect(desk.page.locator("#preflight")).to_contain_text("audio track 2 of 2")


def test_a_silent_recording_is_told(desk: Desk, tmp_path: Path) -> None:
    give(desk, samples.wav(tmp_path / "voice.wav", np.zeros((1, RATE)), RATE))
    expect(desk.page.locator("#preflight .warnings")).to_contain_text("speech")


def test_what_is_no_recording_is_named(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "song.mid"
    path.write_bytes(b"MThd\0\0\0\6\0\1\0\1\0\x60" + bytes(500))
    give(desk, path)
    expect(desk.page.locator("#preflight .warnings")).to_contain_text("MIDI")


@pytest.mark.parametrize("kind", ["a.caf", "a.mp4"])
def test_a_recording_is_dropped(desk: Desk, tmp_path: Path, voice: Path, kind: str) -> None:
    path = tmp_path / kind
    ffmpeg("-i", voice, path)
    desk.tab("voice", "Audio")
    box = desk.page.locator("#audio").bounding_box()
    assert box
    session = desk.page.context.new_cdp_session(desk.page)
    for kind_of_event in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind_of_event,
                "x": box["x"] + box["width"] / 2,
                "y": box["y"] + box["height"] / 2,
                "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1},
            },
        )
    expect(desk.page.locator("#preflight")).to_contain_text("0:01.")

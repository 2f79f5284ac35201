"""The panel that shows what is filled in as a program."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kolbo_demo.media import inspect_source
from tests.browser.desk import Desk
from tests.browser.site import KEY, Site


def test_what_is_filled_in_is_shown_copied_and_runs(
    desk: Desk, site: Site, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    expect(page.locator("#code pre").first).to_be_hidden()
    page.locator("#code summary").press("Enter")
    shown = page.locator("#code pre:visible")
    expect(shown).to_contain_text('open("portrait.jpg", "rb") as image')  # nothing is given yet

    voice = tmp_path / "it's <b>me</b>.wav".replace("/", "")
    shutil.copy(speech, voice)
    desk.give_image(portrait)
    desk.click_face(0.44, 0.24)
    desk.give_audio(voice)
    desk.write("prompt", "smiling, 'very' <b>calm</b>")
    page.locator("#backend").get_by_label("Kolbo cloud").check()
    desk.write("api-key", KEY)
    expect(shown).to_contain_text("'very' <b>calm</b>")
    expect(shown).to_contain_text(re.compile(r'"bounding_box_target": "\[0\.4'))
    expect(page.locator("#code .notes")).to_be_empty()
    for name in ("JavaScript", "curl", "Python"):  # a press of an arrow key goes round, too
        page.locator("#code").get_by_role("radio", name=name).check()
        expect(shown).to_have_count(1)
        expect(shown).to_have_attribute("data-code", name)
        assert KEY not in shown.inner_text()
    page.locator("#code").get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == shown.text_content()

    named = re.findall(r'open\((["\'])(.+?)\1, "rb"\)', copied)
    for file, (_, name) in zip((portrait, speech), named, strict=True):
        shutil.copy(file, tmp_path / name)
    ours = {"KOLBO_API_URL": f"{site.url}/api", "KOLBO_API_KEY": KEY}
    subprocess.run(
        [sys.executable, "-c", copied], cwd=tmp_path, env=os.environ | ours, check=True, timeout=90
    )
    assert inspect_source(tmp_path / "talking.mp4").duration == pytest.approx(1.5, abs=0.05)


def test_the_notes_say_what_the_program_leaves_out(desk: Desk) -> None:
    page = desk.page
    page.locator("#code summary").click()
    notes = page.locator("#code .notes")
    desk.tab("source", "Link")
    desk.write("source-url", "http://localhost:9/a.mp4")
    expect(notes).to_contain_text("Nothing to say yet")
    shown = page.locator("#code pre:visible")
    expect(shown).to_contain_text('"source_url": "http://localhost:9/a.mp4"')
    desk.tab("voice", "Words")
    desk.write("words", "Hello there")
    expect(notes).to_contain_text("speech.wav")
    page.click("#model input")
    page.locator("#model [role=option]").nth(1).click()
    expect(notes).to_contain_text("Smart Select")
    expect(shown).not_to_contain_text('"model"')

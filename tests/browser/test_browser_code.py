"""The panel that shows what is filled in as a program."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from kolbo_demo.media.probe import inspect_source
from tests import samples
from tests.browser.desk import Desk
from tests.browser.site import KEY, Site


def choose(page: Page, name: str) -> str:
    """Opens the tab of a language; the program, as its copy button gives it."""
    page.locator("#code").get_by_role("tab", name=name, exact=True).click()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('')")
    page.locator("#code").get_by_role("button", name="Copy").filter(visible=True).click()
    page.wait_for_function("navigator.clipboard.readText()")
    return page.evaluate("navigator.clipboard.readText()")


def test_what_is_filled_in_is_shown_copied_and_runs(
    desk: Desk, site: Site, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    expect(page.locator("#code .cm-content")).to_have_count(0)
    page.locator("#code > .label-wrap").press("Enter")
    shown = page.locator("#code .cm-content:visible")
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
    expect(page.locator("#code-notes p")).to_have_count(0)
    for name, part in (
        ("JavaScript", "fetch("),
        ("curl", "curl -sS"),
        ("Python", "requests.post("),
    ):
        program = choose(page, name)
        expect(shown).to_have_count(1)
        assert part in program
        assert KEY not in program
    copied = program

    named = re.findall(r'open\((["\'])(.+?)\1, "rb"\)', copied)
    for file, (_, name) in zip((portrait, speech), named, strict=True):
        shutil.copy(file, tmp_path / name)
    ours = {"KOLBO_API_URL": f"{site.url}/api", "KOLBO_API_KEY": KEY}
    subprocess.run(
        [sys.executable, "-c", copied], cwd=tmp_path, env=os.environ | ours, check=True, timeout=90
    )
    assert inspect_source(tmp_path / "talking.mp4").duration == pytest.approx(1.5, abs=0.05)


def test_what_the_page_does_itself_stands_in_comments(
    desk: Desk, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    """A face that is clicked in a later frame is sent where it is when the used part begins."""
    head = np.asarray(Image.open(portrait).convert("RGB").resize((256, 256)))
    pictures = []
    for step in range(30):  # to the right, by half of itself
        pictures.append(np.full((256, 384, 3), 90, np.uint8))
        left = 128 * step // 29
        pictures[-1][:, left : left + 256] = head
    clip = samples.video(tmp_path / "moving.mp4", fps=10, pictures=pictures)
    page = desk.page
    page.locator("#code > .label-wrap").click()
    program = page.locator("#code .cm-content:visible")
    desk.give_video(clip)
    desk.give_audio(speech)
    chosen = page.locator("#face-point")

    def written() -> list[float]:
        expect(program).to_contain_text("bounding_box_target")
        return json.loads(re.findall(r'bounding_box_target": "(.*?)"', program.inner_text())[0])

    page.locator("#face-preview .face").click()
    expect(chosen).to_contain_text("face 1 of 1")
    first = written()
    shown = page.locator("#face-preview img").get_attribute("src")
    desk.slide("face-frame", "2.8")
    expect(page.locator("#face-preview img")).not_to_have_attribute("src", shown or "")
    expect(program).not_to_contain_text("bounding_box_target")
    page.locator("#face-preview .face").click()
    expect(chosen).to_contain_text("face 1 of 1")
    x = float(re.findall(r"at (0\.\d+)", chosen.inner_text())[0])
    assert x - first[0] > 0.2
    assert written() == pytest.approx(first, abs=0.04)

    page.locator("#more summary").click()
    desk.slide("clip-from", "1.5")
    expect(program).to_contain_text("# First trim the clip to 1.50-3.00 s, as this page does")
    assert written()[0] == pytest.approx((first[0] + x) / 2, abs=0.06)
    desk.slide("voice-to", "1")
    expect(program).to_contain_text("# First trim the voice to 0.00-1.00 s, as this page does")
    page.get_by_label("Silence after the voice").check()
    expect(program).to_contain_text("# Then make both equally long, as this page does: Silence")
    page.locator("#mark input").check()
    expect(program).to_contain_text("This page would now write")
    for name, sign in (("JavaScript", "//"), ("curl", "#"), ("Python", "#")):
        text = choose(page, name)
        comments = ("First trim the clip", "Then make both", "This page would now write")
        places = [text.index(f"\n{sign} {words}") for words in comments]
        places.insert(2, text.index("lipsync", places[1]))
        assert places == sorted(places)
    expect(page.locator("#code-notes p")).to_have_count(0)


def test_a_face_that_was_clicked_in_another_link_is_not_written(desk: Desk, links: str) -> None:
    page = desk.page
    page.locator("#code > .label-wrap").click()
    program = page.locator("#code .cm-content:visible")
    desk.tab("source", "Link")
    desk.write("source-url", f"{links}/portrait.jpg")
    desk.click_face(0.44, 0.24)
    expect(program).to_contain_text("bounding_box_target")
    page.locator("#source-url input, #source-url textarea").fill("https://example.com/other.jpg")
    expect(program).to_contain_text("other.jpg")
    expect(program).not_to_contain_text("bounding_box_target")


def test_the_notes_say_what_the_program_leaves_out(desk: Desk) -> None:
    page = desk.page
    page.locator("#code > .label-wrap").click()
    notes = page.locator("#code-notes")
    desk.tab("source", "Link")
    desk.write("source-url", "http://localhost:9/a.mp4")
    expect(notes).to_contain_text("No voice yet")
    shown = page.locator("#code .cm-content:visible")
    expect(shown).to_contain_text('"source_url": "http://localhost:9/a.mp4"')
    desk.tab("voice", "Words")
    desk.write("words", "Hello there")
    expect(shown).to_contain_text("# The API takes a recording")
    expect(shown).not_to_contain_text("times the voice's own speed")
    desk.slide("speed", "1.25")
    expect(shown).to_contain_text("# They are spoken at 1.25 times the voice's own speed.")
    page.click("#model input")
    page.locator("#model [role=option]").nth(1).click()
    expect(notes).to_contain_text("Smart Select")
    expect(shown).not_to_contain_text('"model"')

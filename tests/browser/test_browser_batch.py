"""Many at once: the dry run, the rows, the ZIP."""

import csv
import io
import json
import re
import shutil
import zipfile
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.desk import MADE_MS, Desk, Video
from tests.browser.site import Site
from tests.browser.test_browser_access import no_barrier

ROWS_FIT = """() => {
  const [table, heading, row] = ['*', '.header-cell:last-child', '.body-cell:last-child'].map(
    (part) => document.querySelector(`#batch-rows ${part}`).getBoundingClientRect());
  return row.right <= table.right + 1
    && ['left', 'right'].every((side) => Math.abs(row[side] - heading[side]) <= 1);
}"""


def unfold(page: Page) -> None:
    page.get_by_role("button", name="Many at once").click()
    expect(page.locator("#batch-check")).to_be_visible()


def rows_of(page: Page) -> Locator:
    """Rows of the table."""
    return page.locator("#batch-rows .virtual-body [role=row]")


def test_a_list_from_dry_run_to_zip(
    desk: Desk, site: Site, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    face = tmp_path / "Ünïcode (face) ☺.jpg"
    shutil.copy(portrait, face)
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "source,audio,words,face\n"
        f"{face.name},speech.wav,,0.44 0.24\n"
        "/etc/passwd,speech.wav,,\n"
        f"{face.name},,Hi.,\n"
        "http://127.0.0.1:1/portrait.jpg,speech.wav,,\n",
        encoding="utf-8",
    )
    unfold(page)
    page.click("#batch-check")
    expect(page.locator("#batch-problem")).to_contain_text("Nothing to check yet")
    page.set_input_files("#batch-files input[type=file]", [rows, face, speech])
    expect(page.locator("#batch-files")).to_contain_text("speech")
    page.click("#batch-check")
    lines = rows_of(page)
    expect(lines).to_have_count(4)
    expect(lines.nth(0)).to_contain_text("ready")
    expect(lines.nth(1)).to_contain_text("not among the uploaded files")
    expect(lines.nth(3)).to_contain_text("give a public http or https link")
    expect(page.locator("#batch-summary")).to_contain_text("Nothing was sent")
    page.get_by_role("button", name="Generate videos (2)").click()
    expect(page.locator("#batch-summary")).to_contain_text(" made, ")

    page.reload()  # it goes on, and is found again
    unfold(page)
    expect(page.locator("#batch-summary")).to_contain_text("Ended: 2 of 4", timeout=MADE_MS)
    expect(lines.nth(3)).to_contain_text("failed")
    expect(lines.nth(3)).to_contain_text("public")
    expect(page.locator("#batch-summary [role=status]")).to_contain_text("Ended")
    page.wait_for_function(ROWS_FIT)
    lines.nth(0).get_by_role("gridcell").last.click()
    made = page.locator("#batch-video video")
    expect(made).to_be_visible()
    page.wait_for_function("document.querySelector('#batch-video video').readyState > 1")
    page.set_input_files("#batch-files input[type=file]", [rows, face, speech])
    expect(page.locator("#batch-files")).to_contain_text("speech")
    no_barrier(page, "a batch has ended")
    with page.expect_download() as download:
        page.click("#batch-zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        videos = sorted(name for name in archive.namelist() if name.endswith(".mp4"))
        assert len(videos) == 2
        report = json.loads(archive.read("report.json"))
        sheet = io.StringIO(archive.read("report.csv").decode("utf-8-sig"), newline="")
        archive.extract(videos[0], tmp_path)
    assert [row["state"] for row in report] == ["completed", "failed", "completed", "failed"]
    assert [row["row"] for row in csv.DictReader(sheet)] == ["1", "2", "3", "4"]
    made = Video.read(tmp_path / videos[0])
    assert made.frames > 10
    assert made.sound > 1

    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.wait_for_function(ROWS_FIT)
    page.click("#batch-delete")
    page.locator("#ask-batch-delete").get_by_role("button", name="No", exact=True).click()
    expect(page.locator("#ask-batch-delete")).to_be_hidden()
    page.click("#batch-delete")
    page.locator("#ask-batch-delete").get_by_role("button", name="Delete").click()
    expect(page.locator("#batch-view")).to_be_hidden()
    page.reload()
    expect(page.locator("#generate")).to_be_enabled()
    unfold(page)
    expect(page.locator("#batch-view")).to_be_hidden()


def test_a_folder_of_pairs(desk: Desk, portrait: Path, clip: Path, speech: Path, tmp_path: Path):
    page = desk.page
    folder = tmp_path / "pairs"
    folder.mkdir()
    shutil.copy(portrait, folder / "one.jpg")
    shutil.copy(speech, folder / "one.wav")
    shutil.copy(clip, folder / "two.mp4")
    (folder / "two.txt").write_text("Hello there.")
    shutil.copy(portrait, folder / "three.jpg")
    unfold(page)
    page.get_by_role("tab", name="Folder", exact=True).click()
    page.set_input_files("#batch-folder input[type=file]", folder)
    expect(page.locator("#batch-folder")).to_contain_text("three")
    page.click("#batch-check")
    lines = rows_of(page)
    expect(lines).to_have_count(3)
    expect(lines.filter(has_text="one.jpg")).to_contain_text("ready")
    expect(lines.filter(has_text="three")).to_contain_text("needs one picture or clip")
    expect(lines.filter(has_text="two.mp4")).to_contain_text("ready")


def test_batches_of_this_browser_are_found_again(
    desk: Desk, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    """Several, also those whose tickets an earlier version of the page stored."""
    page = desk.page
    unfold(page)
    for words in ("One.", "Two."):
        rows = tmp_path / "rows.csv"
        rows.write_text(f"source,words\n{portrait.name},{words}\n", encoding="utf-8")
        page.set_input_files("#batch-files input[type=file]", [rows, portrait])
        expect(page.locator("#batch-files")).to_contain_text("portrait")
        page.click("#batch-check")
        expect(rows_of(page)).to_have_count(1)
        page.locator("#batch-files").get_by_label("Clear").click()
    choice = page.locator("#batch-chosen input")
    expect(choice).to_have_value(re.compile(r"1\. "))
    choice.click()
    page.locator("#batch-chosen [role=option]").nth(1).click()
    expect(choice).to_have_value(re.compile(r"2\. "))
    page.evaluate("localStorage.setItem('kolbo-batches', '[\"x\", \"AAAAAAAAAAAAAAAAAAAAAA\"]')")
    page.reload()
    expect(page.locator("#generate")).to_be_enabled()
    unfold(page)
    expect(page.locator("#batch-chosen input")).to_have_value(re.compile(r"1\. "))

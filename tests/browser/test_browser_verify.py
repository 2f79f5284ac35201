"""Results of the page are signed, and the page verifies them."""

import json
from pathlib import Path

from playwright.sync_api import expect

from kolbo_demo.credentials.reading import read
from tests.browser.desk import MADE_MS, Desk


def test_a_result_and_its_side_by_side_video_are_verified(
    desk: Desk, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    video = tmp_path / desk.download(tmp_path).name
    # Report and details say of the result the same as its file.
    made = read(video)
    expect(page.locator("#report .verdict")).to_be_visible(timeout=MADE_MS)
    expect(page.locator("#report")).to_contain_text("Content credentials: Intact")
    desk.unfold("details")
    details = page.locator("#details table")
    for text in ("Intact", "the certificate of this page", made.source_type, made.comment):
        expect(details).to_contain_text(text)
    expect(details).to_contain_text("AI-generated")
    with page.expect_download() as download:
        page.click("#report-file")
    report = json.loads(download.value.path().read_bytes())
    assert (report["credentials"]["state"], report["credentials"]["own"]) == ("intact", True)
    desk.unfold("compare")
    with page.expect_download(timeout=MADE_MS) as download:
        page.click("#save-beside")
    both = tmp_path / "both.mp4"
    download.value.save_as(both)
    found = read(both)
    assert found.state == "intact"
    assert found.comment == found.statement != ""
    assert [each.role for each in found.ingredients] == ["left", "right"]

    desk.unfold("verify")
    answer = page.locator("#verify-answer")
    files = page.locator("#verify-file input[type=file]")
    files.set_input_files(video)
    expect(answer).to_contain_text("Intact")
    expect(answer).to_contain_text("the certificate of this page")
    expect(answer).to_contain_text("compositeWithTrainedAlgorithmicMedia")
    page.locator("#verify-file").get_by_label("Clear").click()
    expect(answer).to_have_text("")
    content = bytearray(video.read_bytes())
    content[-9] ^= 1
    video.write_bytes(content)
    files.set_input_files(video)
    expect(answer).to_contain_text("Changed")
    page.locator("#verify-file").get_by_label("Clear").click()
    note = tmp_path / "note.txt"
    note.write_text("<b>words</b>")
    files.set_input_files(note)
    expect(answer).to_contain_text("carries no content credentials")
    page.locator("#verify").screenshot(path=str(tmp_path / "verify.png"))

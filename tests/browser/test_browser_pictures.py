"""Pictures that no browser shows, and sources of which something is to be told."""

from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from benchmarks.media import make_voice
from tests import samples
from tests.browser.desk import MADE_MS, Desk
from tests.browser.site import Site
from tests.browser.test_browser_batch import unfold
from tests.wild.sounds import RATE
from tests.wild.test_faces import face, masked, portrait
from tests.wild.test_wild_sound import silence, tracks
from tests.wild.test_wild_sound import speech as spoken

FACE = (0.44, 0.24)


def heic(path: Path) -> Path:
    """The portrait as a telephone stores it, lying on its side."""
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(samples.PORTRAIT) as upright:
        lying = upright.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    pillow_heif.from_pillow(lying).save(path, exif=turned.tobytes())
    return path


def large(path: Path) -> Path:
    """50 megapixels."""
    with Image.open(samples.PORTRAIT) as image:
        image.resize((7072, 7072), Image.Resampling.NEAREST).save(path, quality=60)
    return path


MAKE = {"IMG_0001.HEIC": heic, "scan.TIF": samples.portrait, "photo.jpg": large}


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of speech: rendering large pictures costs by the frame."""
    return make_voice(tmp_path_factory.mktemp("voice") / "speech.wav", 0.5)


def give(page: Page, path: Path) -> None:
    page.set_input_files("#source-image input[type=file]", path)


@pytest.mark.parametrize("name", MAKE)
def test_a_picture_is_shown_clicked_and_speaks(
    desk: Desk, speech: Path, tmp_path: Path, name: str
) -> None:
    page = desk.page
    give(page, MAKE[name](tmp_path / name))
    expect(page.locator("#face-point")).to_contain_text("1 face found")
    shown = page.locator("#face-preview img")
    assert shown.evaluate("it => it.naturalWidth") > 400
    # A thumbnail that the browser cannot show is no broken one.
    thumbnails = page.locator("#source-image .image-frame img").filter(visible=True)
    assert thumbnails.evaluate_all("all => all.every((it) => it.naturalWidth > 0)")
    desk.click_face(*FACE)
    expect(page.locator("#face-point")).to_contain_text("face 1 of 1")
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    made = desk.download(tmp_path)
    assert (made.width, made.height) == ((1446, 1446) if name == "photo.jpg" else (512, 512))
    page.get_by_role("button", name="Reuse inputs").click()
    expect(page.locator("#face-point")).to_contain_text("face 1 of 1")


def test_what_browsers_do_not_know_may_be_chosen(desk: Desk) -> None:
    page = desk.page
    with page.expect_file_chooser():
        page.locator("#source-image").get_by_text("Click to Upload").click()
    accepted = page.locator("#source-image input[type=file]").get_attribute("accept")
    assert {"image/*", ".heic", ".tiff"} <= set((accepted or "").split(","))


def test_a_batch_takes_them(desk: Desk, speech: Path, tmp_path: Path) -> None:
    page = desk.page
    sources = [MAKE[name](tmp_path / name) for name in MAKE]
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "source,audio,insist\n" + "".join(f"{path.name},speech.wav,\n" for path in sources)
    )
    unfold(page)
    page.set_input_files("#batch-files input[type=file]", [rows, *sources, speech])
    expect(page.locator("#batch-files")).to_contain_text("scan")
    page.click("#batch-check")
    page.get_by_role("button", name="Generate videos (3)").click()
    expect(page.locator("#batch-summary")).to_contain_text("Ended: 3 of 3", timeout=MADE_MS)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_hidden_mouth_is_told_and_insisted_on(
    page: Page, site: Site, speech: Path, tmp_path: Path, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    desk = Desk.open(page, site.url)
    source = tmp_path / "masked.png"
    Image.fromarray(masked(portrait(), face(), (150, 190, 215))).save(source)
    give(page, source)
    words, insist = page.locator("#face-point"), page.locator("#insist")
    expect(words).to_contain_text("The mouth is not visible")
    expect(words).not_to_contain_text("it will speak")
    expect(insist).to_be_visible()
    page.locator("#code > .label-wrap").click()
    program = page.locator("#code .cm-content:visible")
    if width == 390:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        insist.locator("input").check()
        expect(program).to_contain_text("occlusion_detection_enabled")
        give(page, samples.PORTRAIT)  # another source: nobody insists on that
        expect(words).to_contain_text("it will speak")
        expect(insist).to_be_hidden()
        expect(program).not_to_contain_text("occlusion_detection_enabled")
        return
    desk.give_audio(speech)
    desk.generate()
    assert "The mouth is not visible in the picture" in desk.await_error()
    insist.locator("input").check()
    expect(program).to_contain_text('"occlusion_detection_enabled": "false"')
    desk.generate()
    desk.await_video()


@pytest.mark.parametrize("language", ["en", "he"])
def test_what_is_changed_of_a_source_is_told_before_and_after(
    page: Page, site: Site, tmp_path: Path, language: str
) -> None:
    page.goto(f"{site.url}/?lang={language}")
    expect(page.locator("#generate")).to_be_enabled()
    source = tmp_path / "cut out.png"
    with Image.open(samples.PORTRAIT) as image:
        whole = image.convert("RGBA").resize((2400, 2400))
    whole.paste((0, 0, 0, 0), (0, 0, 400, 400))
    whole.save(source, compress_level=1)
    give(page, source)
    voice = tracks(tmp_path / "voice.mp4", silence(), spoken()[:RATE])
    page.set_input_files("#audio input[type=file]", voice)
    panel = page.locator("#preflight")
    told = {
        "en": ["transparency shown as white", "scaled down to 1446×1446", "audio track 2 of 2"],
        "he": ["שקיפות", "הוקטן ל־1446×1446", "רצועת שמע 2 מתוך 2"],
    }[language]
    for words in told:
        expect(panel).to_contain_text(words)
    if language != "en":
        return
    page.click("#generate")
    page.locator("#status .done").wait_for(timeout=MADE_MS)
    for words in told:
        expect(page.locator("#status .note")).to_contain_text(words)


def test_a_clip_may_be_insisted_on_whatever_its_first_frame_shows(desk: Desk, clip: Path) -> None:
    desk.give_video(clip)
    expect(desk.page.locator("#face-point")).to_contain_text("it will speak")
    expect(desk.page.locator("#insist")).to_be_visible()


def test_hdr_of_a_clip_is_told_first(desk: Desk, tmp_path: Path) -> None:
    head = np.asarray(Image.open(samples.PORTRAIT).convert("RGB").resize((256, 256)))
    clip = samples.video(tmp_path / "hdr.mp4", pictures=[head] * 10, options={
        "x264-params": "colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"
    })  # fmt: skip
    desk.tab("source", "Video")
    desk.page.set_input_files("#source-video input[type=file]", clip)
    expect(desk.page.locator("#preflight")).to_contain_text("HDR shown as SDR")
    desk.page.locator("#backend").get_by_label("Kolbo cloud").check()
    expect(desk.page.locator("#preflight")).not_to_contain_text("HDR")

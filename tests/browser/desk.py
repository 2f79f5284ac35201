"""The page as a visitor works it."""

from dataclasses import dataclass
from pathlib import Path

import av
from playwright.sync_api import Locator, Page, expect

MADE_MS = 90_000
"""Long enough for any render in these tests on a busy machine."""
_MARK_OLD = """() => {
  for (const state of document.querySelectorAll('#status .state, #problem .state')) {
    state.dataset.old = '';
  }
}"""
_NEW = ":not([data-old])"
"""Of a state that is shown since Generate was last pressed."""
_SLOW_LINE = """() => {
  const quick = window.fetch;
  window.fetch = async (...what) => {
    if (String(what[0]).includes("queue/join")) await new Promise((done) => setTimeout(done, 600));
    return quick(...what);
  };
}"""


@dataclass(frozen=True)
class Desk:
    page: Page

    @classmethod
    def open(cls, page: Page, url: str) -> "Desk":
        page.goto(url)
        expect(page.locator("#generate")).to_be_enabled()
        # The list of models comes last, from the API.
        expect(page.locator("#model-note")).to_contain_text("Recommended")
        return cls(page)

    def slow_line(self) -> None:
        """From now on what the page tells takes 0.6 s to arrive."""
        self.page.evaluate(_SLOW_LINE)

    def far_away(self, ms: int) -> None:
        """From now on the service answers so much later."""
        session = self.page.context.new_cdp_session(self.page)
        session.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": ms, "downloadThroughput": -1, "uploadThroughput": -1},
        )

    def tab(self, group: str, name: str) -> None:
        self.page.locator(f"#{group}-tabs").get_by_role("tab", name=name, exact=True).click()

    def give_image(self, path: Path) -> None:
        self.tab("source", "Image")
        self.page.set_input_files("#source-image input[type=file]", path)
        expect(self.page.locator("#source-image .image-frame img")).to_be_visible()

    def give_video(self, path: Path) -> None:
        self.tab("source", "Video")
        self.page.set_input_files("#source-video input[type=file]", path)
        expect(self.page.locator("#source-video video")).to_be_visible()

    def give_audio(self, path: Path) -> None:
        self.tab("voice", "Audio")
        self.page.set_input_files("#audio input[type=file]", path)
        expect(self.page.locator("#audio").get_by_label("Play", exact=True)).to_be_visible()

    def write(self, field: str, text: str) -> None:
        box = self.page.locator(f"#{field} input, #{field} textarea")
        box.fill(text)
        box.blur()

    def slide(self, slider: str, value: str) -> None:
        number = self.page.locator(f"#{slider} input[type=number]")
        number.fill(value)
        number.press("Tab")

    def click_face(self, x: float, y: float) -> None:
        picture = self.page.locator("#face-preview img")
        expect(picture).to_be_visible()
        self.page.wait_for_function("document.querySelector('#face-preview img').complete")
        box = picture.bounding_box()
        assert box
        # Not the picture: the boxes of the faces lie on it.
        self.page.locator("#face-preview .frame").click(
            position={"x": box["width"] * x, "y": box["height"] * y}
        )

    def generate(self) -> None:
        self.page.evaluate(_MARK_OLD)
        self.page.click("#generate")

    def await_video(self) -> None:
        state = self.page.locator(f"#status :is(.done, .failed){_NEW}")
        state.wait_for(timeout=MADE_MS)
        expect(self.page.locator("#status .done")).to_be_visible()
        expect(self.page.locator("#result video")).to_be_visible()

    def await_error(self) -> str:
        reason = self.page.locator(
            f"#problem .state{_NEW} .reason, #status .failed{_NEW} .reason"
        ).first
        reason.wait_for(timeout=MADE_MS)
        expect(self.page.locator("#generate")).to_be_enabled()
        return reason.inner_text()

    def cancel(self) -> None:
        """Answers the question, too."""
        self.page.click("#cancel")
        self.page.locator("#ask-stop").get_by_role("button", name="Stop").click()

    def delete(self) -> None:
        """Deletes the generation in the result panel, and answers the question."""
        self.page.click("#delete")
        self.page.locator("#ask-delete").get_by_role("button", name="Delete").click()

    def unfold(self, fold: str) -> None:
        self.page.locator(f"#{fold} > button").click()

    @property
    def rows(self) -> Locator:
        """Rows of the history, the newest first."""
        return self.page.locator("#history-list .virtual-body [role=row]")

    def bring_to_front(self, row: int) -> None:
        self.rows.nth(row).locator("[role=gridcell]").nth(1).click()

    @property
    def generation_id(self) -> str:
        return self.page.locator("#status .generation-id").inner_text()

    def play(self) -> float:
        """Plays the result for a moment; its duration in seconds."""
        self.page.wait_for_function("document.querySelector('#result video').readyState >= 2")
        self.page.evaluate("v = document.querySelector('#result video'); v.muted = true; v.play()")
        self.page.wait_for_function("document.querySelector('#result video').currentTime > 0.2")
        return self.page.evaluate("document.querySelector('#result video').duration")

    def download(self, folder: Path) -> "Video":
        with self.page.expect_download() as download:
            self.page.click("#download")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return Video.read(path)


@dataclass(frozen=True)
class Video:
    """A downloaded video, every frame of it decoded."""

    name: str
    width: int
    height: int
    frames: int
    duration: float
    sound: float
    """Seconds of audio."""

    @classmethod
    def read(cls, path: Path) -> "Video":
        with av.open(str(path)) as file:
            picture = file.streams.video[0]
            frames = sum(1 for _ in file.decode(picture))
            assert picture.average_rate
            duration = float(frames / picture.average_rate)
            width, height = picture.width, picture.height
        with av.open(str(path)) as file:
            rate = file.streams.audio[0].rate
            sound = sum(frame.samples for frame in file.decode(audio=0)) / rate
        return cls(path.name, width, height, frames, duration, sound)

"""The page: what stands where, and which event reaches which function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from fastapi import APIRouter
from gradio.data_classes import FileData, ImageData
from gradio.i18n import I18nData

from kolbo_demo.client import KolboError
from kolbo_demo.preflight import Inspector
from kolbo_demo.preflight.trim import result_seconds
from kolbo_demo.service.fetch import Policy
from kolbo_demo.service.gate import caller_of
from kolbo_demo.settings import Settings
from kolbo_demo.ui import (
    cards,
    consent,
    endpoints,
    examples,
    gradio_gate,
    model_comparison,
    pace,
    uploads,
)
from kolbo_demo.ui.again import Again
from kolbo_demo.ui.backend import Access, Local
from kolbo_demo.ui.batches import Batches
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.fields import read
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.kept import Kept
from kolbo_demo.ui.model_comparison import ModelComparison
from kolbo_demo.ui.panels.batch import BatchPanel
from kolbo_demo.ui.panels.code import CodePanel
from kolbo_demo.ui.panels.face_picker import FacePicker
from kolbo_demo.ui.panels.header import Header
from kolbo_demo.ui.panels.model_picker import ModelPicker, Offers
from kolbo_demo.ui.panels.preflight import Preflight, at_hand
from kolbo_demo.ui.panels.trim import Edits
from kolbo_demo.ui.panels.voice import Hearing
from kolbo_demo.ui.quota import Quota, counted, salt_in
from kolbo_demo.ui.runs import Runs
from kolbo_demo.ui.stage import Stage, told
from kolbo_demo.ui.sync_report import Reports
from kolbo_demo.ui.visitor_quota import Allowance


@dataclass(frozen=True)
class Page:
    """What is to be served."""

    blocks: gr.Blocks
    routes: APIRouter
    """The page's own, beside Gradio's."""
    quota: Quota
    """Of the files of visitors."""
    private: bool
    """As in `build`."""
    results: Callable[[str], Path | None]
    """Finds the files of batches that are served."""


def build(settings: Settings, local: Local, *, private: bool = False) -> Page:
    """The page, not yet served.

    `private` tells that nobody but this machine's user can reach it. Only then is the key of the
    environment used, or where its owner shares it; it is never sent to a browser.
    """
    shared = Allowance(settings.visitor_limit) if settings.share_key else None
    access = Access(local, settings.api_url, settings.api_key, private, shared)
    data = settings.data_dir.expanduser()
    quota = Quota(settings.page_disk_gb * 1e9, settings.visitor_disk_gb * 1e9, salt_in(data))
    kept = Kept(data / "page", quota)
    reports = Reports(kept)
    inspector = Inspector()
    runs = Runs(access, kept, reports.ask, inspector)
    policy = Policy(settings.fetch_allow_hosts)
    batches = Batches(data / "batches", private, inspector, policy, quota)
    gr.set_static_paths([batches.root])  # served by the gate as they are, not copied by Gradio
    with gr.Blocks(
        title="Kolbo Lipsync",
        analytics_enabled=False,
        delete_cache=(uploads.LOOK_SECONDS, uploads.KEEP_SECONDS),
        fill_width=True,
    ) as blocks:
        _Page(access, runs, batches, inspector).lay_out(blocks)
        endpoints.lay_out(access, runs)
        gradio_gate.lay_out()
    routes = APIRouter()
    routes.include_router(cards.router(runs, reports))
    return Page(blocks, routes, quota, private, batches.served)


class _Page:
    """The components of one page and what they do. What belongs to a visitor is in `gr.State`."""

    def __init__(self, access: Access, runs: Runs, batches: Batches, inspector: Inspector) -> None:
        self._access = access
        self._batches = batches
        self._runs = runs
        self._inspector = inspector

    def lay_out(self, page: gr.Blocks) -> None:
        self.header = Header(self._access)
        with gr.Row(elem_id="columns", equal_height=False):
            with gr.Column(elem_id="source", min_width=300):
                self._face_card()
            with gr.Column(elem_id="inputs", min_width=300):
                self._voice_card()
                self._options_card()
            with gr.Column(elem_id="outputs", min_width=360):
                self.stage = Stage(self._runs)
                self.preflight = Preflight(self._inspector, self._runs.kept)
                self.preflight.lay_out()
                self._example_card()
                self.stage.lay_out_history()
        self.code = CodePanel(self._access, self._inspector)
        self.batch = BatchPanel(self._access, self._batches)
        self._wire(page)

    def _face_card(self) -> None:
        with gr.Column(elem_classes="card"):
            _heading("face.title")
            with gr.Tabs(elem_id="source-tabs") as self.source_tabs:
                with gr.Tab(shown("face.image"), id="image"):
                    self.image = gr.Image(
                        label=shown("face.portrait"),
                        show_label=False,
                        sources=["upload", "webcam", "clipboard"],
                        type="filepath",
                        image_mode=None,
                        buttons=[],
                        elem_id="source-image",
                    )
                    # Gradio would open the picture first and fail with a message of its own.
                    self.image.preprocess = _given_file
                with gr.Tab(shown("face.video"), id="video"):
                    self.video = gr.Video(
                        label=shown("face.clip"),
                        show_label=False,
                        sources=["upload", "webcam"],
                        include_audio=True,
                        buttons=[],
                        elem_id="source-video",
                    )
                    # One that is used again is the file that was given, not a copy in MP4.
                    self.video.postprocess = _same_file  # pyright: ignore[reportAttributeAccessIssue]
                with gr.Tab(shown("face.link"), id="link"):
                    self.source_url = gr.Textbox(
                        label=shown("face.url"),
                        placeholder="https://example.com/portrait.jpg",
                        max_lines=1,
                        elem_id="source-url",
                    )
            self.picker = FacePicker(self._inspector)

    def _voice_card(self) -> None:
        self.hearing = Hearing(self._inspector)
        with gr.Column(elem_classes="card"):
            _heading("voice.title")
            with gr.Tabs(elem_id="voice-tabs") as self.voice_tabs:
                with gr.Tab(shown("voice.audio"), id="audio"):
                    self.audio = gr.Audio(
                        label=shown("voice.recording"),
                        show_label=False,
                        sources=["upload", "microphone"],
                        type="filepath",
                        buttons=[],
                        elem_id="audio",
                    )
                    self.hearing.lay_out_meter()
                with gr.Tab(shown("voice.link"), id="link"):
                    self.audio_url = gr.Textbox(
                        label=shown("voice.url"),
                        placeholder="https://example.com/speech.mp3",
                        max_lines=1,
                        elem_id="audio-url",
                    )
                with gr.Tab(shown("voice.words"), id="words"):
                    self.words = gr.Textbox(
                        label=shown("voice.to_speak"),
                        placeholder=shown("voice.words_hint"),
                        lines=3,
                        max_lines=8,
                        elem_id="words",
                    )
                    self.hearing.lay_out_words()

    def _options_card(self) -> None:
        with gr.Column(elem_classes="card"):
            with gr.Row(elem_id="options"):
                self.models = ModelPicker(self._access)
                self.prompt = gr.Textbox(
                    label=shown("options.prompt"),
                    placeholder=shown("options.prompt_hint"),
                    max_lines=3,
                    min_width=200,
                    elem_id="prompt",
                )
            self.models.lay_out_note()
            self.edits = Edits()
        consent.lay_out()
        self.generate = gr.Button(shown("options.generate"), variant="primary", elem_id="generate")
        self.versus = ModelComparison(self._access)

    def _example_card(self) -> None:
        with gr.Column(elem_classes="card", elem_id="examples"):
            _heading("examples.title", "examples.hint")
            with gr.Row():
                self.still = self._example("image", shown("examples.image"), examples.PORTRAIT)
                self.clip = self._example("video", shown("examples.video"), examples.CLIP)

    def _example(self, name: str, text: I18nData, sample: Path) -> gr.Button:
        icon = examples.thumbnail(sample)
        return gr.Button(text, icon=icon, size="md", min_width=200, elem_id=f"example-{name}")

    def _wire(self, page: gr.Blocks) -> None:
        # No event of this page is for other programs: they have `endpoints.py` and the API. None
        # takes part in run history, and those that carry the key are unknown outside of the page.
        source = [self.image, self.video, self.source_url]
        fields = [*source, self.audio, self.audio_url, self.words]
        page.load(self._inspector.preload, None, None, **QUIET)
        self.picker.follow(self.image, self.video, self.source_url)
        self.hearing.follow(self.audio, self.words)
        self.edits.follow(at_hand, self.picker.seen, self.hearing.heard)
        self.preflight.follow(
            self.picker, self.hearing, self.models, self.header.backend, self.edits
        )

        asked, backend = self.header.asked, self.header.backend
        self.models.follow(asked, *self.header.follow(page))
        given = [  # as `read` takes it
            *fields,
            self.prompt,
            self.models.choice,
            self.picker.choice,
            self.picker.seen,
            self.hearing.speed,
            self.hearing.heard,
            self.edits.mark,
            self.picker.insist,
            *self.edits.values,
        ]
        self.code.follow(backend, given)
        run: dict[str, Any] = {
            "fn": self._generate,
            "inputs": [*asked, self.models.offers, *given],
            "outputs": self.stage.cards,
            **QUIET,
        }
        self.generate.click(**run)
        rivals = [self.versus.choice, *run["inputs"]]
        self.versus.button.click(**run | {"fn": self._compare, "inputs": rivals})
        self.versus.follow(asked, source, self.header.key.blur)
        filled = [*fields, self.source_tabs, self.voice_tabs]
        self.still.click(examples.portrait, None, filled, **QUIET).then(**run)
        self.clip.click(examples.clip, None, filled, **QUIET).then(**run)
        self.stage.follow(self._access, asked)
        again = Again(self._runs.kept, self.picker, self.hearing, self.edits)
        again.follow(self.stage, [*filled, self.prompt, self.models.choice], self.models.offers)
        self.batch.follow(page, asked)

    def _generate(
        self,
        asked_by: gr.Request,
        backend: str,
        key: str,
        offers: Offers,
        *given: Any,
        rivals: Sequence[str] = (),
    ) -> Any:
        """Starts a generation, or one with each of `rivals`. Its card does the rest."""
        fields = read(*given)
        try:
            request = fields.request()
            caller = caller_of(asked_by)
            client = self._access.client(backend, key, caller)
        except (UnusableError, KolboError) as error:
            return told(problem=str(error))
        allowance = self._access.allowance(backend, key, caller)
        spending = partial(allowance.spend, caller.visitor) if allowance else None
        kind = fields.seen.source.kind if fields.seen.source else None
        records = []
        group = uuid4().hex if rivals else None
        for each in rivals or [fields.model or ""]:
            meant = offers.meant(each, kind)
            expected = pace.foreseen(
                self._runs.kept, backend, meant, result_seconds(request.options.trim)
            )
            options = request.options.replace(model=each or None)
            asked = replace(request, options=options)
            try:
                record = self._runs.start(
                    client, asked, backend, group, spending, expected, meant, counted(caller)
                )
            except UnusableError as error:
                return told(records, str(error))
            records.append(record)
        return told(records)

    def _compare(self, asked_by: gr.Request, chosen: list[str], *filled: Any) -> Any:
        """Starts one generation with each of the chosen models."""
        try:
            return self._generate(asked_by, *filled, rivals=model_comparison.checked(chosen))
        except UnusableError as error:
            return told(problem=str(error))


def _heading(title: str, hint: str | None = None) -> gr.HTML:
    """A card's title; `title` and `hint` are keys of texts."""

    def html() -> str:
        below = f"<p>{escape(say(hint))}</p>" if hint else ""
        return f"<h2>{escape(say(title))}</h2>{below}"

    return gr.HTML(shown(html), elem_classes="card-title")


def _same_file(path: str | None) -> FileData | None:
    return FileData(path=path, orig_name=Path(path).name) if path else None


def _given_file(payload: ImageData | None) -> str | None:
    """The very file that was uploaded, as it is."""
    return str(uploads.uploaded(payload.path)) if payload and payload.path else None

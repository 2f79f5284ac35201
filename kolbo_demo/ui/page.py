"""The page: what stands where, and which event reaches which function."""

from dataclasses import dataclass
from html import escape

import gradio as gr
from gradio.data_classes import ImageData

from kolbo_demo.credentials.signing import Signer
from kolbo_demo.preflight import Inspector
from kolbo_demo.service.fetch import Policy
from kolbo_demo.settings import Settings
from kolbo_demo.ui import endpoints
from kolbo_demo.ui.access.backend import Access, Local
from kolbo_demo.ui.access.key_allowance import Allowance
from kolbo_demo.ui.background.batches import Batches
from kolbo_demo.ui.background.runs import Runs
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.gate import gradio_gate
from kolbo_demo.ui.generate import Generate
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.mount import Page
from kolbo_demo.ui.panels import consent
from kolbo_demo.ui.panels.batch import BatchPanel
from kolbo_demo.ui.panels.code import CodePanel
from kolbo_demo.ui.panels.comparison import ComparisonPanel, ModelComparison
from kolbo_demo.ui.panels.face_picker import FacePicker
from kolbo_demo.ui.panels.form import Form
from kolbo_demo.ui.panels.gallery import Gallery
from kolbo_demo.ui.panels.header import Header
from kolbo_demo.ui.panels.history import HistoryPanel
from kolbo_demo.ui.panels.model_picker import ModelPicker
from kolbo_demo.ui.panels.parts import Player
from kolbo_demo.ui.panels.preflight import Preflight
from kolbo_demo.ui.panels.result import ResultPanel
from kolbo_demo.ui.panels.reuse_inputs import ReuseInputs
from kolbo_demo.ui.panels.trim import TrimPanel
from kolbo_demo.ui.panels.verify import VerifyPanel
from kolbo_demo.ui.panels.voice import VoicePanel
from kolbo_demo.ui.storage import uploads
from kolbo_demo.ui.storage.generation_store import GenerationStore
from kolbo_demo.ui.storage.quota import Quota, salt_in
from kolbo_demo.ui.tab import storage_secret


def build(settings: Settings, local: Local, *, private: bool = False) -> Page:
    """The page, not yet served.

    `private` tells that nobody but this machine's user can reach it. Only then is the key of the
    environment used, or where its owner shares it; it is never sent to a browser.
    """
    shared = Allowance(settings.visitor_limit) if settings.share_key else None
    access = Access(local, settings.api_url, settings.api_key, private, shared)
    data = settings.data_dir.expanduser()
    salt = salt_in(data)
    quota = Quota(settings.page_disk_gb * 1e9, settings.visitor_disk_gb * 1e9, salt)
    store = GenerationStore(data / "page", quota)
    inspector = Inspector()
    signer = Signer(settings)
    runs = Runs(access, store, inspector, signer)
    policy = Policy(settings.fetch_allow_hosts)
    batches = Batches(data / "batches", private, inspector, policy, quota, signer)
    # Served by the gate as they are, not copied by Gradio.
    gr.set_static_paths([store.root, batches.root])
    with gr.Blocks(
        title="Kolbo Lipsync",
        analytics_enabled=False,
        delete_cache=(uploads.POLL_SECONDS, uploads.KEEP_SECONDS),
        fill_width=True,
    ) as blocks:
        secret = storage_secret(salt)
        _Page(access, runs, batches, inspector, secret).lay_out(blocks)
        VerifyPanel(signer)
        endpoints.lay_out(access, runs)
        gradio_gate.lay_out()
    return Page(blocks, quota, private, lambda name: store.served(name) or batches.served(name))


@dataclass
class _Page:
    """The components of one page and what they do. What belongs to a visitor is in `gr.State`."""

    access: Access
    runs: Runs
    batches: Batches
    inspector: Inspector
    secret: str
    """As in `HistoryPanel`."""

    def lay_out(self, page: gr.Blocks) -> None:
        self.header = Header(self.access)
        with gr.Row(elem_id="columns", equal_height=False):
            with gr.Column(elem_id="source", min_width=300):
                self._face_card()
            with gr.Column(elem_id="inputs", min_width=300):
                self._voice_card()
                self._options_card()
            with gr.Column(elem_id="outputs", min_width=360):
                self.result = ResultPanel(self.runs)
                self.comparison = ComparisonPanel(self.runs.store)
                self.preflight = Preflight(self.inspector, self.runs.store)
                self.preflight.lay_out()
                self.gallery = Gallery()
        self.history = HistoryPanel(self.runs, self.secret)
        self.code = CodePanel(self.access, self.inspector)
        self.batch = BatchPanel(self.access, self.batches)
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
                    # One that is used again is the file that was given, not a copy in MP4.
                    self.video = Player(
                        label=shown("face.clip"),
                        show_label=False,
                        sources=["upload", "webcam"],
                        include_audio=True,
                        buttons=[],
                        elem_id="source-video",
                    )
                with gr.Tab(shown("face.link"), id="link"):
                    self.source_url = gr.Textbox(
                        label=shown("face.url"),
                        placeholder="https://example.com/portrait.jpg",
                        max_lines=1,
                        elem_id="source-url",
                    )
            self.picker = FacePicker(self.inspector)

    def _voice_card(self) -> None:
        self.voice_panel = VoicePanel(self.inspector)
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
                    self.voice_panel.lay_out_meter()
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
                        lines=2,
                        max_lines=8,
                        elem_id="words",
                    )
                    self.voice_panel.lay_out_words()

    def _options_card(self) -> None:
        with gr.Column(elem_classes="card"):
            with gr.Row(elem_id="options"):
                self.models = ModelPicker(self.access)
                self.prompt = gr.Textbox(
                    label=shown("options.prompt"),
                    placeholder=shown("options.prompt_hint"),
                    max_lines=3,
                    min_width=200,
                    elem_id="prompt",
                )
            self.models.lay_out_note()
            self.trim_panel = TrimPanel()
        consent.lay_out()
        self.generate = gr.Button(shown("options.generate"), variant="primary", elem_id="generate")
        self.model_comparison = ModelComparison()

    def _wire(self, page: gr.Blocks) -> None:
        # No event of this page is for other programs: they have `endpoints.py` and the API. None
        # takes part in run history, and those that carry the key are unknown outside of the page.
        form = Form(
            image=self.image,
            video=self.video,
            source_url=self.source_url,
            audio=self.audio,
            audio_url=self.audio_url,
            words=self.words,
            prompt=self.prompt,
            model=self.models.choice,
            choice=self.picker.choice,
            source_facts=self.picker.source_facts,
            speed=self.voice_panel.speed,
            voice_name=self.voice_panel.voice_name,
            voice_facts=self.voice_panel.voice_facts,
            mark=self.trim_panel.mark,
            insist=self.picker.insist,
            trim_panel=self.trim_panel,
        )
        page.load(self.inspector.preload, None, None, **QUIET)
        self.picker.follow(self.image, self.video, self.source_url)
        self.voice_panel.follow(self.audio, self.words)
        self.trim_panel.follow(self.picker.source_facts, self.voice_panel.voice_facts)
        self.preflight.follow(
            self.picker, self.voice_panel, self.models, self.header.backend, self.trim_panel
        )
        api_choice, backend = self.header.api_choice, self.header.backend
        self.models.follow(api_choice, *self.header.follow(page))
        self.code.follow(backend, form)
        self.model_comparison.follow(self.models.offers, form.source)
        generate = Generate(
            access=self.access,
            runs=self.runs,
            form=form,
            backend=backend,
            key=self.header.key,
            offers=self.models.offers,
            model_comparison=self.model_comparison,
            result=self.result,
            history=self.history,
            comparison=self.comparison,
            preflight=self.preflight.fold,
        )
        run = generate.connect(page, self.generate)
        self.gallery.follow(form, backend, self.source_tabs, self.voice_tabs, run)
        reuse = ReuseInputs(
            self.runs.store, form, self.picker, self.voice_panel, self.source_tabs, self.voice_tabs
        )
        reuse.follow(self.result.reuse, self.history.tab, self.models.offers)
        self.batch.follow(page, backend, self.header.key)


def _heading(title: str) -> gr.HTML:
    """A card's title; `title` is the key of a text."""
    return gr.HTML(shown(lambda: f"<h2>{escape(say(title))}</h2>"), elem_classes="card-title")


def _given_file(payload: ImageData | None) -> str | None:
    """The very file that was uploaded, as it is."""
    return str(uploads.uploaded(payload.path)) if payload and payload.path else None

"""The head of the page: its title, whose engine does the work, and with whose key."""

import os
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from kolbo_demo.service.gate import Caller, caller_of
from kolbo_demo.ui.access import sign_in
from kolbo_demo.ui.access.backend import CLOUD, LOCAL, Access
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.i18n import language
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views


class Header:
    """Title, switch and key, where the caller stands in the layout."""

    def __init__(self, access: Access) -> None:
        self._access = access
        cloud = access.default == CLOUD
        with gr.Row(elem_id="top", equal_height=False):
            gr.HTML(shown(_title), elem_id="title")
            if "SPACE_ID" in os.environ:  # elsewhere the buttons do nothing
                with gr.Column(elem_id="space", min_width=180, scale=0):
                    gr.DuplicateButton(str(shown("top.duplicate")), elem_id="duplicate")
                    if access.shared and sign_in.is_on():
                        sign_in.lay_out()
            with gr.Column(elem_id="where", min_width=280):
                with gr.Row():
                    self.backend = gr.Radio(
                        [(shown("top.local"), LOCAL), (shown("top.cloud"), CLOUD)],
                        value=access.default,
                        label=shown("top.made_by"),
                        show_label=False,
                        container=False,
                        elem_id="backend",
                    )
                    self.key = gr.Textbox(
                        type="password",
                        label=shown("top.key"),
                        show_label=False,
                        container=False,
                        placeholder=shown(self._key_hint(None)),
                        elem_id="api-key",
                        visible=True if cloud else "hidden",
                        html_attributes=gr.InputHTMLAttributes(
                            autocomplete="new-password", spellcheck=False, autocorrect="off"
                        ),
                    )
                self._about = gr.HTML(
                    shown(lambda: self._side(access.default)), elem_id="about-backend"
                )
        self.api_choice = [self.backend, self.key]
        """Components that tell which API is asked, and with which key."""

    def follow(self, page: gr.Blocks) -> list[Callable[..., Any]]:
        """Tells of the side that was chosen. Gives the events after which another one, or another
        key, may be asked."""
        switched = [self._about, self.key]
        return [
            page.load(self._switch, self.backend, switched, **QUIET).then,
            self.backend.change(self._switch, self.backend, switched, **QUIET).then,
            self.key.blur,
            self.key.submit,
        ]

    def _side(self, backend: str, caller: Caller | None = None) -> str:
        access = self._access
        if backend == LOCAL:
            if problem := access.local.problem():
                return views.note(problem, bad=True)
            return views.note(say("top.about_local"))
        shared = access.allowance(backend, "", caller)
        if shared and access.own_key(caller):
            return views.note(
                say("shared.about", host=access.cloud_host, limit=f"{shared.limit:g}")
            )
        sentence = say("top.about_cloud", host=access.cloud_host)
        if access.withheld_from(caller):
            sentence += " " + say("top.about_token" if access.private else "top.about_withheld")
        return views.note(sentence)

    def _key_hint(self, caller: Caller | None) -> str:
        """The key of the text in the empty field."""
        access = self._access
        if access.own_key(caller) is None:
            return "top.key_hint"
        return "top.key_hint_own" if access.is_owner(caller) else "shared.key_hint"

    def _switch(self, backend: str, request: gr.Request) -> tuple[str, Any]:
        caller = caller_of(request)
        visible = True if backend == CLOUD else "hidden"
        hint = say(self._key_hint(caller))
        return self._side(backend, caller), gr.Textbox(visible=visible, placeholder=hint)


def _title() -> str:
    return (
        "<h1><img src='favicon.ico' alt='' width='34' height='34'>Kolbo Lipsync</h1>"
        f"<div class='about'><p>{escape(say('top.promise'))}</p>{language.choice()}</div>"
    )

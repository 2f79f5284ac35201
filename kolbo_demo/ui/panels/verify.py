"""The panel that shows the content credentials of an uploaded file."""

from html import escape

import gradio as gr

from kolbo_demo.credentials import CredentialsError
from kolbo_demo.credentials.reading import Credentials, read
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.fair_lock import CURRENT_CALLER
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.events import INSPECTING, QUIET
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.storage.uploads import uploaded


class VerifyPanel:
    """Folded until somebody wants it."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        with gr.Accordion(shown("verify.title"), open=False, elem_id="verify", elem_classes="card"):
            gr.HTML(shown(lambda: views.note(say("verify.hint"))), apply_default_css=False)
            file = gr.File(
                label=shown("verify.file"),
                show_label=False,
                height=120,
                buttons=[],
                elem_id="verify-file",
            )
            answer = gr.HTML(
                "",
                html_template='<div role="status">${value}</div>',
                apply_default_css=False,
                elem_id="verify-answer",
            )
        file.upload(self._verify, file, answer, **{**QUIET, **INSPECTING})
        file.clear(lambda: "", None, answer, **QUIET)

    def _verify(self, request: gr.Request, file: object) -> str:
        if not isinstance(file, str):
            return ""
        CURRENT_CALLER.set(caller_of(request).visitor)
        try:
            return render(read(uploaded(file), self._signer.chain()))
        except CredentialsError as error:
            return views.note(str(error), bad=True)


def render(found: Credentials) -> str:
    """Verdict and facts, as HTML."""
    facts = {
        say("verify.signer"): _signer(found),
        say("verify.generator"): found.generator,
        say("verify.statement"): found.statement,
        say("verify.source_type"): found.source_type,
        say("verify.mark"): found.visible_mark,
        say("verify.comment"): found.comment,
        **{f"SHA-256 ({each.role})": each.sha256 for each in found.ingredients},
        say("verify.problems"): ", ".join(found.problems),
    }
    rows = "".join(
        f'<dt>{escape(name)}</dt><dd dir="auto">{escape(text)}</dd>'
        for name, text in facts.items()
        if text
    )
    verdict = escape(say(f"verify.{found.state}"))
    bad = " bad" if found.state in ("changed", "invalid") else ""
    return f'<p class="verdict{bad}">{verdict}</p>' + (f"<dl>{rows}</dl>" if rows else "")


def _signer(found: Credentials) -> str:
    if not found.signer:
        return ""
    return say("verify.own" if found.own else "verify.unknown", name=found.signer)

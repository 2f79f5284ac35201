"""The picture to click for the face that speaks, and where it was clicked.

The browser draws the marker and measures the click against the picture as it is shown, so letter
boxes, zoom and screen density cannot move it. Pictures and first frames arrive upright; browsers
turn a linked picture upright themselves.
"""

import base64
import io
import math
from html import escape
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from kolbo_demo.contract import url_kind
from kolbo_demo.media import MediaError
from kolbo_demo.sandbox import preview
from kolbo_demo.ui import views
from kolbo_demo.ui.texts import say, shown

PREVIEW_PIXELS = 720
"""Longer side of the picture that is sent to the browser."""

Point = tuple[float, float]

_SCRIPT = Path(__file__).with_suffix(".js")
_TEMPLATE = """
<div class="frame" tabindex="${value ? 0 : -1}" role="group" aria-describedby="face-point"
  aria-label="${title}">
  ${value}<i class="marker" style="${x === null || x === undefined ? 'display:none' :
  `left:${x * 100}%;top:${y * 100}%`}"></i></div>
<p class="unseen-note">${description}</p>
"""


class FacePicker:
    """The preview, the words under it and the button that clears the point."""

    def __init__(self) -> None:
        self.point = gr.State(None)
        """x and y in 0-1 of the upright picture, or None."""
        self.preview = gr.HTML(
            "",
            html_template=_TEMPLATE,
            js_on_load=_SCRIPT.read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="face-preview",
            visible="hidden",
            x=None,
            y=None,
            title=str(shown("face.frame")),  # Gradio translates properties of these names
            description=str(shown("face.unseen")),
        )
        with gr.Row(elem_classes="face-row"):
            self.words = gr.HTML(shown(lambda: views.note(say("face.first"))), elem_id="face-point")
            self.clear = gr.Button(
                shown("face.clear"),
                elem_id="face-clear",
                size="sm",
                min_width=72,
                scale=0,
                visible="hidden",
            )

    def follow(self, image: gr.Image, video: gr.Video, url: gr.Textbox) -> None:
        """Shows whatever source is given, and keeps the point where it is clicked."""
        given = [image, video, url]
        outputs = [self.preview, self.words, self.point, self.clear]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        gr.on(
            [image.change, video.change, url.blur, url.submit],
            _show,
            given,
            outputs,
            trigger_mode="always_last",
            concurrency_limit=None,
            **quiet,
        )
        self.preview.select(_pick, None, outputs, queue=False, **quiet)
        self.clear.click(_clear, None, outputs, queue=False, **quiet)


def in_words(point: Point | None) -> str:
    """Where the face is, for people and with its numbers."""
    if point is None:
        return views.note(say("face.click"))
    x, y = point
    words = escape(say("face.chosen", x=round(x * 100), y=round(y * 100)))
    return f'<p class="note">{words} <code>({x:.3f}, {y:.3f})</code></p>'


def _show(image: str | None, video: str | None, url: str | None) -> tuple[Any, ...]:
    """The preview of what is given; a new source has no point yet."""
    words = in_words(None)
    picture = ""
    try:
        if path := image or video:
            picture = _picture(Path(path))
        elif link := (url or "").strip():
            picture = _linked(link)
    except MediaError as error:
        words = views.note(str(error), bad=True)
    return (
        gr.HTML(picture, x=None, y=None, visible=_seen(picture)),
        words if picture or "bad" in words else views.note(say("face.first")),
        None,
        gr.Button(visible="hidden"),
    )


def _picture(path: Path) -> str:
    frame = preview(path, PREVIEW_PIXELS)
    data = io.BytesIO()
    frame.save(data, "JPEG", quality=86)
    code = base64.b64encode(data.getvalue()).decode()
    words = escape(say("face.source"))
    return f'<img alt="{words}" draggable="false" src="data:image/jpeg;base64,{code}">'


def _linked(url: str) -> str:
    """A link's picture, fetched by the visitor's browser: this server does not follow it."""
    if not url.lower().startswith(("http://", "https://")):
        raise MediaError(say("inputs.no_link"))
    if url_kind(url) == "video":
        return f'<video muted playsinline preload="auto" src="{escape(url)}"></video>'
    words = escape(say("face.linked"))
    return f'<img alt="{words}" referrerpolicy="no-referrer" src="{escape(url)}">'


def _pick(event: gr.SelectData) -> tuple[Any, ...]:
    point = _point(event.index)
    x, y = point or (None, None)
    # The browser has drawn the marker already. Told again, Gradio sees a change when it is cleared.
    return gr.HTML(x=x, y=y), in_words(point), point, gr.Button(visible=_seen(point))


def _point(sent: Any) -> Point | None:
    """What the browser sent, if it is a point."""
    try:
        x, y = (float(value) for value in sent)
    except (TypeError, ValueError):
        return None
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def _seen(thing: object) -> Literal[True, "hidden"]:
    return True if thing else "hidden"


def _clear() -> tuple[Any, ...]:
    return gr.HTML(x=None, y=None), in_words(None), None, gr.Button(visible="hidden")

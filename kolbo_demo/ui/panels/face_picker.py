"""The picture to click for the face that speaks: its faces numbered, the choice marked and named.

The browser draws the boxes and the marker in parts of the picture as it is shown, and measures the
click against it, so letter boxes, zoom and screen density cannot move them. Pictures and frames
arrive upright; browsers turn a linked picture upright themselves.
"""

import math
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from kolbo_demo.contract import url_kind
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Point
from kolbo_demo.preflight import Face, Inspector, Preview, Source
from kolbo_demo.ui.events import EACH, INSPECTING, LATEST, QUIET, changes
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views

FRAME_STEP = 0.1
"""Seconds between two places of the slider."""

_SCRIPT = Path(__file__).with_suffix(".js")
_TEMPLATE = """
<div class="frame" tabindex="${value ? 0 : -1}" role="group" aria-describedby="face-point"
  aria-label="${title}">
  ${value}${(faces || []).map((face, index) => `<button type="button" data-face="${index}"
  class="face${index === chosen ? ' chosen' : ''}" aria-pressed="${index === chosen}"
  aria-label="${face.name}" style="left:${face.left}%;top:${face.top}%;width:${face.width}%;` +
  `height:${face.height}%"><b>${index + 1}</b></button>`).join('')}<i class="marker"
  style="${x === null || x === undefined ? 'display:none' :
  `left:${x * 100}%;top:${y * 100}%`}"></i></div>
<p class="unseen-note">${description}</p>
"""


@dataclass(frozen=True, eq=False)  # Gradio hashes a state to see that it changed
class SourceFacts:
    """The given source and its properties."""

    path: Path | None = None
    """None for a link, which this server does not follow."""
    link: str = ""
    source: Source | None = None
    """None for a link."""
    at: float = 0.0
    """Seconds of the clip that are shown."""
    faces: list[Face] | None = None
    """In the picture that is shown; None where nobody looked."""


@dataclass(frozen=True)
class Choice:
    """The place that was clicked."""

    clicked: Point
    at: float = 0.0
    """Seconds of the clip that were shown."""

    def face(self, faces: list[Face] | None) -> int | None:
        """Index of the face that it lies on."""
        on = [index for index, face in enumerate(faces or []) if _inside(face, self.clicked)]
        x, y = self.clicked
        return min(
            on,
            key=lambda i: math.hypot(x - (faces or [])[i].point[0], y - (faces or [])[i].point[1]),
            default=None,
        )


class FacePicker:
    """The preview, the words under it and the button that clears the choice."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self.source_facts = gr.State(SourceFacts())
        self.choice = gr.State(None)
        """A `Choice`, or None."""
        self.preview = gr.HTML(
            "",
            html_template=_TEMPLATE,
            js_on_load=_SCRIPT.read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="face-preview",
            visible="hidden",
            x=None,
            y=None,
            faces=[],
            chosen=None,
            answered=0,
            title="",
            description="",
        )
        self.frame = gr.Slider(
            0,
            1,
            0,
            step=FRAME_STEP,
            label=shown("face.at"),
            elem_id="face-frame",
            buttons=[],
            visible="hidden",
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
        self.insist = gr.Checkbox(label=shown("face.insist"), elem_id="insist", visible="hidden")
        self.shown = [
            self.preview, self.words, self.choice, self.clear, self.frame, self.source_facts
        ]  # fmt: skip
        """Components that `inspect` fills."""

    def follow(self, image: gr.Image, video: gr.Video, url: gr.Textbox) -> None:
        """Shows whatever source is given, and keeps the place that is clicked in it."""
        given = [image, video, url]
        outputs = self.shown[:4]
        gr.on(
            [image.change, video.change, url.blur, url.submit],
            self._show,
            [*given, self.source_facts],
            [*self.shown, self.insist],
            **LATEST | INSPECTING,
        )
        self.frame.input(
            self._move,
            [self.frame, self.source_facts],
            [*outputs, self.source_facts],
            **LATEST | INSPECTING,
        )
        self.preview.select(self._pick, self.source_facts, outputs, **EACH)
        self.clear.click(_clear, self.source_facts, outputs, **QUIET)
        known = [self.source_facts, self.choice]
        gr.on(changes(known), _offered, known, self.insist, **LATEST)

    def _show(
        self, image: str | None, video: str | None, url: str | None, source_facts: SourceFacts
    ) -> tuple[Any, ...]:
        """The given source. A new one has no choices yet; a displayed one keeps its own."""
        given = image or video
        path = Path(given) if given else None
        link = "" if path else (url or "").strip()
        if (path or link) and (path, link) == (source_facts.path, source_facts.link):
            return tuple(gr.skip() for _ in range(len(self.shown) + 1))
        return *self.inspect(path, link), False

    def inspect(
        self, path: Path | None, link: str, choice: Choice | None = None
    ) -> tuple[Any, ...]:
        """Updates of `shown` for a file or a link, with the point that was clicked in it."""
        source_facts, html, problem = SourceFacts(), "", ""
        at = choice.at if choice else 0.0
        try:
            if path:
                source, picture = self._inspector.inspect_source(path)
                if at:
                    picture = self._inspector.inspect_frame(path, at)
                source_facts = SourceFacts(path, "", source, at, picture.faces)
                html = _picture(picture)
            elif link:
                html = _linked(link)
                source_facts = SourceFacts(link=link)
        except MediaError as error:
            problem, choice = views.note(str(error), bad=True), None
        duration = source_facts.source.duration if source_facts.source else None
        last = round(max((duration or 0) - FRAME_STEP, FRAME_STEP), 1)
        words = problem or (
            in_words(choice, source_facts) if html else views.note(say("face.first"))
        )
        return (
            _preview(html, source_facts.faces, choice),
            words,
            choice,
            gr.Button(visible=_visible(choice)),
            gr.Slider(value=source_facts.at, maximum=last, visible=_visible(duration)),
            source_facts,
        )

    def _move(self, at: float, source_facts: SourceFacts) -> tuple[Any, ...]:
        """Another frame of the clip, where a face may be that the first does not show."""
        if source_facts.path is None:
            return tuple(gr.skip() for _ in range(5))
        try:
            picture = self._inspector.inspect_frame(source_facts.path, at)
        except MediaError as error:
            problem = views.note(str(error), bad=True)
            return gr.skip(), problem, gr.skip(), gr.skip(), gr.skip()
        source_facts = replace(source_facts, at=at, faces=picture.faces)
        return (
            _preview(_picture(picture), picture.faces),
            in_words(None, source_facts),
            None,
            gr.Button(visible="hidden"),
            source_facts,
        )

    def _pick(self, source_facts: SourceFacts, event: gr.SelectData) -> tuple[Any, ...]:
        point = _point(event.index)
        if point is None:
            return _clear(source_facts)
        choice = Choice(point, source_facts.at)
        # The browser has drawn the marker already. Told again, Gradio sees a change when it is
        # cleared.
        x, y = point
        return (
            gr.HTML(x=x, y=y, chosen=choice.face(source_facts.faces), answered=event.value),
            in_words(choice, source_facts),
            choice,
            gr.Button(visible=True),
        )


def speaking(choice: Choice | None, faces: list[Face] | None) -> Face | None:
    """The face that will speak, as far as the picture tells."""
    if choice:
        index = choice.face(faces)
        return None if index is None else (faces or [])[index]
    return max(faces or [], key=lambda face: face.scale, default=None)


def _offered(source_facts: SourceFacts, choice: Choice | None) -> gr.Checkbox:
    """Rendering anyway, where the mouth is hidden or nobody here can tell: of a clip one frame was
    looked at, and the engine looks at others."""
    face = speaking(choice, source_facts.faces)
    clip = source_facts.source and source_facts.source.kind == "video"
    return gr.Checkbox(visible=_visible(source_facts.link or clip or (face and face.hidden)))


def in_words(choice: Choice | None, source_facts: SourceFacts) -> str:
    """Says which face will speak or how to choose it, and whether its mouth is hidden."""
    face = speaking(choice, source_facts.faces)
    if face is None or not face.hidden:
        return _chosen(choice, source_facts.faces)
    still = source_facts.source is None or source_facts.source.kind == "image"
    hidden = views.note(say("face.hidden" if still else "face.hidden_now"), bad=True)
    return (
        hidden
        if len(source_facts.faces or []) == 1
        else _chosen(choice, source_facts.faces) + hidden
    )


def _chosen(choice: Choice | None, faces: list[Face] | None) -> str:
    count = len(faces or [])
    if choice is None:
        if faces is None:
            return views.note(say("face.click"))
        if not faces:
            return views.note(say("face.none"), bad=True)
        return views.note(say("face.one") if count == 1 else say("face.several", count=count))
    x, y = (f"{value:.2f}" for value in choice.clicked)
    index = choice.face(faces)
    if index is None:
        return views.note(say("face.chosen_point", x=x, y=y))
    return views.note(say("face.chosen", number=index + 1, count=count, x=x, y=y))


def _inside(face: Face, point: Point) -> bool:
    left, top, width, height = face.box
    return left <= point[0] <= left + width and top <= point[1] <= top + height


def _preview(html: str, faces: list[Face] | None, choice: Choice | None = None) -> gr.HTML:
    boxes = [
        {
            "name": escape(say("face.number", number=index, count=len(faces or [])), quote=True),
            **dict(
                zip(
                    ("left", "top", "width", "height"),
                    (round(100 * side, 2) for side in face.box),
                    strict=True,
                )
            ),
        }
        for index, face in enumerate(faces or [], 1)
    ]
    x, y = choice.clicked if choice else (None, None)
    return gr.HTML(
        html,
        x=x,
        y=y,
        chosen=choice.face(faces) if choice else None,
        faces=boxes,
        title=escape(say("face.frame"), quote=True),
        description=escape(say("face.unseen")),
        visible=_visible(html),
    )


def _picture(picture: Preview) -> str:
    words = escape(say("face.source"))
    return f'<img alt="{words}" draggable="false" src="data:image/jpeg;base64,{picture.jpeg}">'


def _linked(url: str) -> str:
    """A link's picture, fetched by the visitor's browser: this server does not follow it."""
    if not url.lower().startswith(("http://", "https://")):
        raise MediaError(say("inputs.no_link"))
    if url_kind(url) == "video":
        return f'<video muted playsinline preload="auto" src="{escape(url)}"></video>'
    words = escape(say("face.linked"))
    return f'<img alt="{words}" referrerpolicy="no-referrer" src="{escape(url)}">'


def _point(sent: Any) -> Point | None:
    """The point that the browser sent; None if it is not one."""
    try:
        x, y = (float(value) for value in sent)
    except (TypeError, ValueError):
        return None
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def _visible(thing: object) -> Literal[True, "hidden"]:
    return True if thing else "hidden"


def _clear(source_facts: SourceFacts) -> tuple[Any, ...]:
    return (
        gr.HTML(x=None, y=None, chosen=None),
        in_words(None, source_facts),
        None,
        gr.Button(visible="hidden"),
    )

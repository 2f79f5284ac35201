"""HTML of states, tables and notes. Everything that comes from outside is escaped here."""

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kolbo_demo.contract import Status, UnsyncedSpan, is_web_link
from kolbo_demo.ui.background.run import Stage
from kolbo_demo.ui.i18n.texts import say

_LABELED = (
    "generation_id",
    "state",
    "credits_used",
    "model",
    "duration",
    "aspect_ratio",
    "prompt_used",
    "created_at",
    "fps",
    "urls",
)
"""Fields of a status that have a name in the texts, in the order they are told."""


MOST_UNSYNCED = 5
"""Parts that are told at once; the rest is folded away."""
_REASONS = {
    "the face is not seen": "unsynced.unseen",
    "somebody else is seen": "unsynced.else",
    "the face is too small": "unsynced.small",
    "the head is turned away": "unsynced.turned",
    "the mouth is outside the picture": "unsynced.outside",
    "the mouth is hidden": "unsynced.covered",
}
_NOTES = {
    "HDR was tone-mapped to SDR": "note.hdr",
    "transparent parts were laid on white": "note.alpha",
    "the voice is one channel of the sound": "note.channel",
}
"""The local engine's words on the wire; what another server says is told as it came."""
_TRACK = re.compile(r"the voice is sound track (\d+) of (\d+)( \(.*\))?")
_SCALED = re.compile(r"the picture was scaled down to (\d+)x(\d+)")


def translate_note(text: str) -> str:
    """A note of the local engine in the visitor's language."""
    if track := _TRACK.fullmatch(text):
        return say("note.track", number=track[1], count=track[2]) + (track[3] or "")
    if scaled := _SCALED.fullmatch(text):
        return say("note.scaled", width=scaled[1], height=scaled[2])
    return say(_NOTES[text]) if text in _NOTES else text


def clock(seconds: float) -> str:
    """Minutes and seconds, as on a player."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def panes(videos: Sequence[tuple[Path, str]], play: str) -> str:
    """Videos beside each other and one control for all, which `in_step.js` works. The last one has
    the sound. `play` is the text of its button."""
    figures = ""
    for place, (path, label) in enumerate(videos, 1):
        lead = place == len(videos)
        figures += (
            f'<figure class="{"lead" if lead else ""}">'
            f'<video playsinline preload="auto" aria-label="{escape(label)}" '
            f'src="{file_url(path)}"{"" if lead else " muted"}></video>'
            f"<figcaption>{escape(label)}</figcaption></figure>"
        )
    return (
        f'<div class="panes">{figures}</div>'
        f'<div class="control"><button type="button" class="button" data-do="play" '
        f'aria-pressed="false">{escape(play)}</button>'
        '<input type="range" min="0" max="1000" value="0" '
        f'aria-label="{escape(say("compare.at"))}"></div>'
    )


def file_url(path: Path) -> str:
    """Address of a served file, relative to the page."""
    return f"gradio_api/file={quote(str(path))}"


def idle() -> str:
    """Before anything was asked for."""
    return _status(
        "idle",
        say("status.idle"),
        f"<p>{escape(say('status.idle_hint'))}</p>",
    )


def running(
    stage: Stage, elapsed: float, fault: str | None = None, expected: float | None = None
) -> str:
    """While it is being made. `fault` is a sentence on what went wrong without ending it;
    `expected` are the seconds in all that it was foreseen to take."""
    if stage.percent is None:
        bar = _bar(f'aria-valuetext="{escape(say("status.working"))}"', "moving", "")
        side = ""
    else:
        whole = min(max(round(stage.percent), 0), 100)
        bar = progress(whole)
        side = f"{whole} %"
    extra = (stage.status.model_extra or {}) if stage.status else {}
    place, frames = extra.get("queue_position"), extra.get("frames_done")
    more = []
    if isinstance(place, int) and place > 0:
        more.append(say("status.before_it", count=place))
    if isinstance(frames, int) and isinstance(extra.get("frames"), int):
        more.append(say("status.frames", done=frames, all=extra["frames"]))
    if (left := stage.seconds_left) is not None:
        more.append(say("status.left", time=clock(left)))
    elif expected:
        more.append(say("status.takes", time=clock(max(expected, 1))))
    rest = _facts(stage.generation_id, elapsed, more) + note(fault or "", bad=True)
    return _status("running", stage.headline, bar + rest, side)


def preview(jpeg: bytes) -> str:
    """The latest frame of a render."""
    data = b64encode(jpeg).decode()
    return f'<img alt="{escape(say("result.preview"))}" src="data:image/jpeg;base64,{data}">'


def stranded(generation_id: str | None) -> str:
    """Of Kolbo's cloud, after the page was started anew: it needs a key to be asked after."""
    return _status(
        "stranded",
        say("status.stranded"),
        f'<p class="reason">{escape(say("status.stranded_hint"))}</p>' + _facts(generation_id),
    )


def done(
    elapsed: float | None,
    generation_id: str | None,
    unsynced: Sequence[UnsyncedSpan] = (),
    notes: Sequence[str] = (),
) -> str:
    """The video is there. `unsynced` are its parts whose lips were left as they were, `notes` are
    those of the result."""
    changed = note(" · ".join(map(translate_note, notes)))
    facts = _facts(generation_id, elapsed)
    return _status("done", say("status.ready"), facts + changed + _unsynced(unsynced))


def _unsynced(parts: Sequence[UnsyncedSpan]) -> str:
    sentences = [
        say(
            "unsynced.part",
            start=f"{part.start:.1f}",
            end=f"{part.end:.1f}",
            reason=say(_REASONS[part.reason]) if part.reason in _REASONS else part.reason,
        )
        for part in parts
    ]
    if not sentences:
        return ""
    shown = "".join(f"<li>{escape(text)}</li>" for text in sentences[:MOST_UNSYNCED])
    rest = "".join(f"<li>{escape(text)}</li>" for text in sentences[MOST_UNSYNCED:])
    if rest:
        count = len(sentences) - MOST_UNSYNCED
        summary = escape(say("unsynced.more", count=count))
        shown += f"<li><details><summary>{summary}</summary><ul>{rest}</ul></details></li>"
    return f'<ul class="unsynced note">{shown}</ul>'


def failed(sentence: str, generation_id: str | None = None) -> str:
    """A failure, with one sentence on what is wrong and what to do."""
    return _status(
        "failed",
        say("status.failed"),
        f'<p class="reason">{escape(sentence)}</p>{_facts(generation_id)}',
    )


def cancelled(generation_id: str | None) -> str:
    """Stopped on the visitor's word."""
    return _status(
        "cancelled",
        say("status.cancelled"),
        f'<p class="reason">{escape(say("status.cancelled_hint"))}</p>' + _facts(generation_id),
    )


def details(status: Status, link: bool, measured: Sequence[tuple[str, str]] = ()) -> str:
    """The result's document and what was `measured` of the result, names and values, as a table.
    `link` tells whether the result's address means anything to the visitor."""
    document = status.model_dump(mode="json", exclude_none=True)
    flat = {**document, **document.get("result", {})}
    if not link:
        flat.pop("urls", None)
    known = [(name, say(f"result.{name}"), flat[name]) for name in _LABELED if flat.get(name)]
    skip = {*_LABELED, "success", "type", "progress", "result", "thumbnail_url", "error"}
    more = [
        (name, name.replace("_", " ").capitalize(), value)
        for name, value in flat.items()
        if name not in skip and isinstance(value, str | int | float)
    ]
    cells = [(label, _cell(name, value)) for name, label, value in known + more]
    cells += [(label, f"<bdi>{escape(value)}</bdi>") for label, value in measured]
    rows = "".join(
        f"<tr><th scope='row'>{escape(label)}</th><td>{cell}</td></tr>" for label, cell in cells
    )
    return f'<table class="facts-table"><tbody>{rows}</tbody></table>'


def _cell(name: str, value: Any) -> str:
    if name == "urls":
        url = str(value[0])
        if is_web_link(url):
            shown = escape(url)
            return f'<a href="{shown}" target="_blank" rel="noopener noreferrer">{shown}</a>'
    if isinstance(value, float):
        value = f"{value:g}"
    if name == "duration":
        value = say("result.seconds", seconds=value)
    if name in {"generation_id", "created_at"}:
        return f"<code>{escape(str(value))}</code>"
    return escape(str(value))


def note(sentence: str, *, bad: bool = False) -> str:
    """A line of small print; `bad` where it tells of a fault."""
    return f'<p class="note{" bad" if bad else ""}">{escape(sentence)}</p>' if sentence else ""


def _status(kind: str, headline: str, rest: str, side: str = "") -> str:
    """Without announcements for screen readers: a live region here would read every number."""
    headline = escape(headline)
    return (
        f'<div class="state {kind}"><header><h2>{headline}</h2>'
        f'<span class="percent">{side}</span></header>{rest}</div>'
    )


def progress(percent: float) -> str:
    """A bar that is filled so far, 0-100."""
    return _bar(f'aria-valuenow="{percent:.0f}"', "", f"width:{percent:.0f}%")


def _bar(value: str, kind: str, style: str) -> str:
    return (
        f'<div class="bar {kind}" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'{value} aria-label="{escape(say("status.progress"))}"><i style="{style}"></i></div>'
    )


def _facts(
    generation_id: str | None,
    elapsed: float | None = None,
    more: Sequence[str] = (),
) -> str:
    facts = ""
    if elapsed is not None:
        facts += f'<span class="elapsed">{clock(elapsed)}</span>'
    facts += "".join(f"<span>{escape(fact)}</span>" for fact in more)
    if generation_id:
        facts += f'<code class="generation-id">{escape(generation_id)}</code>'
    return f'<p class="facts">{facts}</p>' if facts else ""

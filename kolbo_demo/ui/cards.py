"""Each generation as a card: what the browser asks for, and the HTML it gets.

The browser keeps tickets and generation ids, asks after them once a second while anything changes,
and puts what it gets into place (`cards.js`). So a reload, a phone that slept and a connection that
broke are all the same: it asks again.
"""

import json
import time
from html import escape
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from kolbo_demo.csv_export import csv_text
from kolbo_demo.fair_lock import CURRENT_CALLER, FairSemaphore
from kolbo_demo.media.probe import MediaError
from kolbo_demo.media.side_by_side import write_side_by_side
from kolbo_demo.service.gate import Caller, caller_of
from kolbo_demo.ui import model_comparison, sync_report, views
from kolbo_demo.ui.backend import CLOUD
from kolbo_demo.ui.generate import Run
from kolbo_demo.ui.i18n.texts import language_of, say, speaking
from kolbo_demo.ui.kept import REPORT, RESULT, SUBTITLES, THUMBNAIL, Record
from kolbo_demo.ui.runs import Runs, fetchable
from kolbo_demo.ui.share import ANSWERS, WORK, Share
from kolbo_demo.ui.sync_report import Reports

MOST_TICKETS = 100
"""A request may ask after."""

BESIDE = "beside.mp4"

_SERVED = {
    RESULT: "video/mp4",
    THUMBNAIL: "image/jpeg",
    SUBTITLES: "text/vtt",
    REPORT: "application/json",
    BESIDE: "video/mp4",
}
"""Files of a folder that are handed out, and as what: never as anything a browser would run."""

_TABLES = {"csv": "text/csv", "json": "application/json"}

_SHOWN = {".jpg": "image/jpeg", ".webm": "video/webm", ".mov": "video/quicktime"}

_STATES = {
    "done": "batch.state_completed",
    "failed": "batch.state_failed",
    "cancelled": "status.cancelled",
}

_PRIVATE = {"Cache-Control": "private, max-age=3600"}

_MAKING = FairSemaphore()
"""Putting videos together keeps a core busy: one at a time."""

Card = dict[str, Any]
Ticket = Annotated[str, Field(max_length=100)]


class Asked(BaseModel):
    """What the browser asks after."""

    tickets: Annotated[list[Ticket], Field(max_length=MOST_TICKETS)]


class Other(BaseModel):
    """What to put beside a result."""

    ticket: Ticket | None = None
    """Another result's; None is the source."""


class Beside(BaseModel):
    """What came of it."""

    url: str | None = None
    problem: str | None = None


def router(runs: Runs, reports: Reports) -> APIRouter:
    """The page's own routes. Who names a ticket may see, cancel and delete what is under it."""
    answers, work = [Depends(Share(ANSWERS))], [Depends(Share(WORK))]
    routes = APIRouter(prefix="/cards", include_in_schema=False, dependencies=answers)

    @routes.post("")
    def look(asked: Asked, request: Request) -> list[Card]:
        with speaking(language_of(request)):
            caller = caller_of(request)
            return [card(runs, reports, ticket, caller) for ticket in dict.fromkeys(asked.tickets)]

    @routes.post("/{ticket}/cancel")
    def cancel(ticket: str, request: Request) -> Card:
        with speaking(language_of(request)):
            caller = caller_of(request)
            runs.cancel(ticket, caller)
            return card(runs, reports, ticket, caller)

    @routes.post("/{ticket}/delete")
    def delete(ticket: str, request: Request) -> Card:
        with speaking(language_of(request)):
            runs.delete(ticket)
            return card(runs, reports, ticket)

    @routes.post("/{ticket}/beside", dependencies=work)
    def side_by_side(ticket: str, other: Other, request: Request) -> Beside:
        """Makes one video of this result and its source, or another result."""
        CURRENT_CALLER.set(caller_of(request).visitor)
        with speaking(language_of(request)):
            return put_beside(runs, ticket, other.ticket)

    @routes.get("/table.{form}")
    def table(
        form: Literal["csv", "json"],
        ticket: Annotated[list[Ticket], Query(max_length=MOST_TICKETS)],
    ) -> Response:
        """Models that were compared, for other programs."""
        found = [record for each in dict.fromkeys(ticket) if (record := runs.kept.get(each))]
        rows = [
            model_comparison.figures(record, reports.of(record) if record.end == "done" else None)
            for record in found
        ]
        if form == "json":
            text = json.dumps(rows, indent=2, ensure_ascii=False)
        else:
            text = csv_text(list(rows[0]) if rows else (), [list(row.values()) for row in rows])
        named = {"Content-Disposition": f'attachment; filename="models.{form}"'}
        return Response(text, media_type=_TABLES[form], headers=named)

    @routes.get("/{ticket}/before", dependencies=work)
    def before(ticket: str, request: Request) -> Response:
        CURRENT_CALLER.set(caller_of(request).visitor)
        record = runs.kept.get(ticket)
        path = runs.kept.before(record) if record else None
        if path is None:
            return PlainTextResponse("Not here any more.", status_code=404)
        kind = _SHOWN.get(path.suffix, "video/mp4")
        return FileResponse(path, media_type=kind, headers=_PRIVATE)

    @routes.get("/{ticket}/{name}")
    def file(ticket: str, name: str, download: bool = False) -> Response:
        path = runs.kept.file(ticket, name) if name in _SERVED else None
        if path is None:
            return PlainTextResponse("Not here any more.", status_code=404)
        saved = None
        if download and (record := runs.kept.get(ticket)):
            saved = f"{record.generation_id or 'kolbo'}{path.suffix}"
        return FileResponse(
            path,
            media_type=_SERVED[name],
            filename=saved,
            headers=_PRIVATE,
        )

    return routes


def card(runs: Runs, reports: Reports, ticket: str, caller: Caller | None = None) -> Card:
    """What the browser shows of a generation; `gone` where nothing of it is kept."""
    found = runs.find(ticket, caller)
    if found is None:
        return {"ticket": ticket, "gone": True}
    record, run = found
    shown = record.end == "done" and runs.kept.file(ticket, RESULT) is not None
    report = reports.of(record) if shown else None
    base = f"cards/{ticket}"
    state = _state(record)
    if record.end is None and run is not None and run.stage.percent is not None:
        state = f"{state}, {run.stage.percent:.0f} %"
    elif shown and report is None:
        state = say("sync.measuring")
    return {
        "ticket": ticket,
        "id": record.generation_id,
        "backend": record.backend,
        "group": record.group,
        "running": record.end is None,
        "settled": record.end is not None and (report is not None or not shown),
        "live": _announced(record, run),
        "parts": {
            "status": _status(record, run),
            "actions": _actions(record, run),
            "media": _media(runs, record) if shown else "",
            "compare": _compare() if shown else "",
            "report": sync_report.view(report, base) if shown else "",
            "details": _details(record),
        },
        "title": title(record),
        "result": f"{base}/{RESULT}" if shown else None,
        "before": _before(runs, record) if shown else None,
        "row": _row(runs, record),
        "model": model_comparison.name(record),
        "versus": model_comparison.cells(record, state, report) if record.group else "",
    }


def put_beside(runs: Runs, ticket: str, other: str | None) -> Beside:
    """Blocks until the video is made."""
    kept = runs.kept
    record, right = kept.get(ticket), kept.file(ticket, RESULT)
    left = kept.file(other, RESULT) if other else kept.before(record) if record else None
    if left is None or right is None:
        return Beside(problem=say("compare.none"))
    try:
        with _MAKING.acquire():
            write_side_by_side(left, right, kept.folder(ticket) / BESIDE)
    except MediaError as error:
        return Beside(problem=str(error))
    return Beside(url=f"cards/{ticket}/{BESIDE}?download=true&at={time.time():.0f}")


def _announced(record: Record, run: Run | None) -> str:
    """What a screen reader is told: every change of state, and progress in quarters."""
    if record.end == "done":
        return say("status.ready")
    if record.end == "failed":
        return f"{say('status.failed')}. {record.error or ''}"
    if record.end == "cancelled":
        return say("status.cancelled")
    if run is None:
        return say("status.stranded")
    quarter = int((run.stage.percent or 0) // 25 * 25)
    told = run.stage.spoken or run.stage.headline
    return f"{told}, {quarter} %" if quarter else told


def _status(record: Record, run: Run | None) -> str:
    known = record.generation_id
    if record.end == "done":
        result = record.status.result if record.status else None
        unsynced, notes = (result.unsynced, result.notes) if result else ((), ())
        return views.done(record.seconds, known, unsynced, notes)
    if record.end == "failed":
        return views.failed(record.error or "", known)
    if record.end == "cancelled":
        return views.cancelled(known)
    if run is None:
        return views.stranded(known)
    return views.running(run.stage, _elapsed(record), run.fault, record.expected)


def _elapsed(record: Record) -> float:
    return max(0.0, time.time() - record.created)


def _actions(record: Record, run: Run | None) -> str:
    buttons = []
    if record.end is None and run is not None:
        more = 'data-id="cancel"' + (" disabled" if run.cancelling else "")
        buttons.append(_button("cancel", say("options.cancel"), more))
    elif record.end is None:
        buttons.append(_button("follow", say("cards.follow")))
    elif fetchable(record):
        buttons.append(_button("follow", say("cards.fetch")))
    return "".join(buttons)


def _media(runs: Runs, record: Record) -> str:
    base = f"cards/{record.ticket}"
    track = ""
    if runs.kept.file(record.ticket, SUBTITLES):
        track = (
            f'<track kind="subtitles" srclang="en" label="{escape(say("voice.words"))}" default '
            f'src="{base}/{SUBTITLES}">'
        )
    return (
        f'<div class="player" data-id="result"><video controls playsinline preload="auto" '
        f'aria-label="{escape(title(record))}" src="{base}/{RESULT}">{track}</video></div>'
        f'<p class="buttons"><a class="button" data-id="download" '
        f'href="{base}/{RESULT}?download=true" download>{escape(say("result.download"))}</a>'
        f"{_button('again', say('cards.again')) if record.source else ''}"
        f"{_button('link', say('cards.link')) if record.generation_id else ''}</p>"
    )


def _before(runs: Runs, record: Record) -> dict[str, str] | None:
    """The source for the comparison: `video` or `image`, and where it lies."""
    path = runs.kept.before(record)
    if path is None:
        return None
    kind = "image" if path.suffix == ".jpg" else "video"
    return {"kind": kind, "url": f"cards/{record.ticket}/before"}


def _compare() -> str:
    """The player of two videos, folded away; the script fills it when it is opened."""
    save = escape(say("compare.save"))
    return (
        f'<details class="fold compare" data-source="{escape(say("compare.source"))}">'
        f"<summary>{escape(say('compare.title'))}</summary>"
        f"<label>{escape(say('compare.beside'))} <select></select></label>"
        '<div class="panes"><div></div><div class="lead"></div></div>'
        f"{control(say('compare.play'))}"
        f'<p class="buttons"><button type="button" class="button" data-do="beside">{save}'
        f'</button><span class="note told" role="status"></span></p></details>'
    )


def control(play: str) -> str:
    """What plays videos in step; `play` is what its button says."""
    return (
        f'<div class="control"><button type="button" class="button" data-do="play" '
        f'aria-pressed="false">{escape(play)}</button>'
        '<input type="range" min="0" max="1000" value="0" '
        f'aria-label="{escape(say("compare.at"))}"></div>'
    )


def _details(record: Record) -> str:
    if record.status is None:
        return ""
    return views.details(record.status, link=record.backend == CLOUD)


def title(record: Record) -> str:
    """A generation in words: who says what."""
    if record.source is None:
        return record.generation_id or say("result.generation_id")
    said = record.voice.name if record.voice else f"“{(record.words or '')[:60]}”"
    return f"{record.source.name} · {said}"


def _state(record: Record) -> str:
    return say(_STATES[record.end] if record.end else "cards.under_way")


def _row(runs: Runs, record: Record) -> str:
    picture = '<span class="blank" aria-hidden="true"></span>'
    if runs.kept.file(record.ticket, THUMBNAIL):
        alt = escape(record.source.name if record.source else title(record))
        picture = (
            f'<img alt="{alt}" src="cards/{record.ticket}/{THUMBNAIL}" width="56" height="56">'
        )
    facts = [
        _state(record),
        model_comparison.name(record),
        f"“{record.options.prompt[:60]}”" if record.options.prompt else "",
        say("cards.credits", credits=f"{record.credits:g}") if record.credits else "",
        views.clock(record.seconds) if record.seconds is not None else "",
    ]
    told = "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact)
    buttons = _button("open", say("cards.open"))
    if record.source:
        buttons += _button("again", say("cards.again_short"))
    if record.end is not None:
        buttons += _button("delete", say("cards.delete"))
    return (
        f'{picture}<div class="what"><strong>{escape(title(record))}</strong>'
        f'<p class="facts"><time data-at="{record.created:.0f}"></time>{told}</p></div>'
        f'<div class="buttons">{buttons}</div>'
    )


def _button(action: str, text: str, more: str = "") -> str:
    return f'<button type="button" class="button" data-do="{action}" {more}>{escape(text)}</button>'

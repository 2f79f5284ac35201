"""History: the generations of this browser, with their states, and the list that it stores."""

from datetime import datetime
from html import escape
from typing import Any

import gradio as gr
from gradio.blocks import Block

from kolbo_demo.service.gate import Caller
from kolbo_demo.ui.access.backend import CLOUD
from kolbo_demo.ui.background.runs import Runs
from kolbo_demo.ui.events import Updates
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import comparison, views
from kolbo_demo.ui.storage.generation_store import THUMBNAIL, Record, title
from kolbo_demo.ui.tab import STORAGE_KEY, Entry, Tab

POLL_SECONDS = 2.0
THUMBNAIL_PIXELS = 48

_COLUMNS = {"preflight.source": "72px", "batch.name": "55%", "batch.state": "27%"}
"""Keys of the headings, and widths."""

Row = tuple[Any, ...]


class HistoryPanel:
    """The table, where the caller stands in the layout."""

    def __init__(self, runs: Runs, secret: str) -> None:
        """`secret` as in `gr.BrowserState`."""
        self._runs = runs
        with gr.Accordion(
            shown("cards.history"), open=False, elem_id="history", elem_classes="card"
        ) as self._fold:
            self._none = gr.HTML(shown(lambda: views.note(say("cards.history_none"))))
            self.table = gr.Dataframe(
                headers=[""] * len(_COLUMNS),
                datatype=["html", "html", "str"],
                column_count=len(_COLUMNS),
                column_widths=list(_COLUMNS.values()),
                show_label=False,
                interactive=False,
                wrap=True,
                buttons=[],
                visible=False,
                elem_id="history-list",
            )
        self.timer = gr.Timer(POLL_SECONDS, active=False)
        self.stored = gr.BrowserState([], storage_key=STORAGE_KEY, secret=secret)
        self.tab = gr.State(Tab())
        self.loaded = gr.JSON(visible=False)
        """Read from the browser when the page is loaded."""
        self.received = gr.Button(visible="hidden", elem_id="list-received")
        """Clicked by the script when another page of this browser has changed the list."""
        self.inputs: set[Block] = {self.tab, self.stored}
        self.outputs: list[Block] = [
            *(self._fold, self._none, self.table, self.timer, self.stored),
        ]

    def connect(self) -> None:
        """Tells other pages of this browser of changes."""
        self.stored.change(
            None, self.stored, None, js="kolboList.changed", api_visibility="private"
        )

    def updates(self, tab: Tab, caller: Caller | None) -> Updates:
        """The table and the stored list. Blocks for the files of the generations."""
        rows, unsettled = list[Row](), False
        for entry in list(tab.entries.values()):
            row = tab.rows.get(entry.ticket) if self._runs.store.has(entry.ticket) else None
            if row is None:
                row, settled = self._row(tab, entry, caller)
                if row is None:
                    continue
                if settled:
                    tab.rows[entry.ticket] = row
                unsettled = unsettled or not settled
            rows.append(row)
        label = say("cards.history") + (f" ({len(rows)})" if rows else "")
        return {
            self._fold: gr.update(label=label),
            self._none: gr.update(visible=not rows),
            self.table: gr.update(value={"headers": _headers(), "data": rows}, visible=bool(rows)),
            self.timer: gr.update(active=unsettled),
            self.stored: tab.stored(),
        }

    def _row(self, tab: Tab, entry: Entry, caller: Caller | None) -> tuple[Row | None, bool]:
        """Cells of a generation, and whether they are final. None where nothing of it is left."""
        snapshot = self._runs.snapshot(entry.ticket, caller)
        if snapshot is None:
            if entry.id is None or entry.backend != CLOUD:
                tab.remove(entry.ticket)
                return None, True
            cell = comparison.with_ticket(entry.ticket, f"<code>{escape(entry.id)}</code>")
            return ("", cell, ""), True  # a key can open it
        record = snapshot.record
        entry.id, entry.backend = record.generation_id or entry.id, record.backend
        started = datetime.fromtimestamp(record.created, tab.zone)
        description = (
            f"{escape(title(record))}<br><small>{escape(comparison.name(record))} · "
            f"{started:%Y-%m-%d %H:%M}</small>"
        )
        cells = (
            self._thumbnail(record),
            comparison.with_ticket(record.ticket, description),
            comparison.state(snapshot),
        )
        return cells, snapshot.settled and record.end is not None

    def _thumbnail(self, record: Record) -> str:
        path = self._runs.store.file(record.ticket, THUMBNAIL)
        if path is None:
            return ""
        name = escape(record.source.name if record.source else title(record), quote=True)
        size = f'width="{THUMBNAIL_PIXELS}" height="{THUMBNAIL_PIXELS}"'
        return f'<img alt="{name}" src="{views.file_url(path)}" {size}>'


def _headers() -> list[str]:
    return [say(text) for text in _COLUMNS]

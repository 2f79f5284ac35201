"""Generations of one browser, as one open page knows them.

The browser stores tickets and ids, never a key (`gr.BrowserState`). A page takes them up when it is
loaded, and adds its own.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone
from typing import Any

from pydantic import BaseModel, Field, ValidationError

MOST = 60
STORAGE_KEY = "kolbo-history"


class Entry(BaseModel):
    """One generation in the list that a browser stores."""

    ticket: str = Field(max_length=100)
    id: str | None = Field(None, max_length=100)
    """Of the generation, once it is accepted."""
    backend: str | None = Field(None, max_length=20)


@dataclass(eq=False)
class Tab:
    """State of one open page. All events of the page share the object, so that none overwrites the
    change of another."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By ticket, newest first."""
    deleted: set[str] = field(default_factory=set)
    front: str | None = None
    """Ticket of the generation in the result panel."""
    view: object = None
    """Of the generator that fills the result panel; another one ends when this changes."""
    watched: float = 0.0
    """`time.monotonic()` of that generator's last look; infinite once it has ended."""
    listed: object = None
    """`Runs.revision` for which the other results were last listed."""
    beside: str | None = None
    """Ticket of the result that the one in the result panel is compared with, empty for its source;
    None before the visitor has compared it."""
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """History rows that will not change any more, by ticket."""
    zone: timezone = UTC
    """Of the browser."""

    def merge(self, stored: object) -> None:
        """Add the entries that the browser has stored and this page does not know."""
        found = {entry.ticket: entry for entry in _entries(stored)}
        new = {
            ticket: entry
            for ticket, entry in found.items()
            if ticket not in self.entries and ticket not in self.deleted
        }
        self._set({**new, **self.entries})

    def add(self, entries: Iterable[Entry]) -> None:
        """Add generations that have just been started or opened, the first one foremost."""
        self._set({**{entry.ticket: entry for entry in entries}, **self.entries})

    def remove(self, ticket: str) -> None:
        """Forget a generation."""
        self.entries.pop(ticket, None)
        self.deleted.add(ticket)
        if self.front == ticket:
            self.front = self.view = None

    def find(self, generation_id: str) -> str | None:
        """Ticket of a generation known by its id."""
        tickets = (entry.ticket for entry in self.entries.values() if entry.id == generation_id)
        return next(tickets, None)

    def bring_to_front(self, ticket: str) -> object:
        """Show a generation in the result panel. Returns the new view."""
        if ticket != self.front:
            self.beside = None
        self.front, self.view = ticket, object()
        return self.view

    def stored(self) -> list[dict[str, Any]]:
        """The list for the browser to store."""
        return [entry.model_dump() for entry in self.entries.values()]

    def set_zone(self, minutes: object) -> None:
        """`minutes` as JavaScript's `getTimezoneOffset` gives them."""
        if isinstance(minutes, int | float) and abs(minutes) < 24 * 60:
            self.zone = timezone(timedelta(minutes=-minutes))

    def _set(self, entries: dict[str, Entry]) -> None:
        self.entries = dict(list(entries.items())[:MOST])


def _entries(stored: object) -> Iterable[Entry]:
    for value in stored[:MOST] if isinstance(stored, list) else ():
        try:
            yield Entry.model_validate(value)
        except ValidationError:
            continue


def storage_secret(salt: bytes) -> str:
    """Secret of `gr.BrowserState` that survives a restart; the page's configuration shows it."""
    return hashlib.blake2b(b"browser state", key=salt, digest_size=16).hexdigest()

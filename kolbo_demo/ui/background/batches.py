"""Batches of visitors: what they gave, the dry run, the run. The work itself is `kolbo_demo.batch`.

A batch is a folder with what was uploaded and what was made. So one that a stopped page left can be
gone on with; only the key must come again.
"""

import json
import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kolbo_demo.batch import (
    Batch,
    BatchStore,
    Row,
    RowStatus,
    check_links,
    check_rows,
    read_csv,
    read_pairs,
    upload_resolver,
)
from kolbo_demo.batch.runner import STARTS_PER_MINUTE
from kolbo_demo.client import InputError, KolboClient
from kolbo_demo.contract import MAX_FILE_BYTES
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.preflight import Inspector
from kolbo_demo.service.fetch import Policy
from kolbo_demo.ui.background.archives import Room, take
from kolbo_demo.ui.background.run import Spending
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.folders import Folders, Served
from kolbo_demo.ui.storage.quota import Quota, QuotaError

_TYPES = {".zip": "application/zip", ".csv": "text/csv", ".mp4": "video/mp4"}
"""Of the results' files."""
PRIVATE_AT_ONCE, PUBLIC_AT_ONCE = 4, 1
"""Rows in flight."""
PUBLIC_STARTS = 4
"""Rows that begin in a minute: some of what a visitor may start in one is left for his page."""
PUBLIC_ROWS = 30
MOST_BYTES, PUBLIC_BYTES = 2 * 1024**3, 500 * 1024**2
"""Of one batch, unpacked."""
UNSTARTED_SECONDS = 3600.0
"""A batch that was checked and not started stays so long."""
ARCHIVE, REPORT = "batch.zip", "report.csv"
_VIDEO = re.compile(r"\d{4}-[0-9A-Za-z_-]{1,60}\.mp4")
_INPUTS, _CHECKED = "inputs", "checked.json"

Problems = dict[str, str | None]
"""By a row's number, as JSON has it; links are judged apart, because who fetches them may change.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """Where a batch stands."""

    lines: Sequence[RowStatus]
    running: bool
    started: bool
    archived: bool
    """Whether there is a ZIP of it."""
    local: bool
    """Whether the local service makes it, and links were judged by its rules."""


class Batches(Folders):
    """The folders of batches, and those under way."""

    def __init__(
        self,
        root: Path,
        private: bool,
        inspector: Inspector | None = None,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        quota: Quota | None = None,
        signer: Signer | None = None,
    ) -> None:
        """`private` as in `ui.build`: otherwise visitors share this machine with each other.
        `inspector` marks results, `signer` signs them; `policy` is the local service's."""
        self._running: dict[str, tuple[Batch, str]] = {}
        super().__init__(root, quota)
        self._policy = policy
        self._inspector = inspector or Inspector()
        self._signer = signer
        self._private = private
        self._starting = threading.Lock()

    def busy(self, ticket: str) -> bool:
        """Whether it is under way."""
        return ticket in self._running

    def check(
        self,
        files: Sequence[tuple[str, Path]],
        client: KolboClient | None,
        local: bool = False,
        visitor: str = "",
    ) -> str:
        """The dry run: takes what was uploaded, reads its rows and looks at each. Gives the ticket.

        `files` are names, as the visitor has them, and where they lie. Without a client models are
        not looked up; links are judged where it is `local`. On a public page an earlier batch that
        the `visitor` did not start goes. Raises `InputError` and `KolboError`.
        """
        self._replace(visitor)
        ticket = self.make(visitor)
        try:
            inputs = self.folder(ticket) / _INPUTS
            inputs.mkdir(mode=0o700)
            with self.quota.writing(self.folder(ticket), visitor) as writing:
                most = MOST_BYTES if self._private else PUBLIC_BYTES
                take(files, Room(inputs, writing, most, MAX_FILE_BYTES))
            rows = check_rows(self._few(inputs), client)
            problems = {str(row.number): row.problem for row in rows}
            self._note(ticket, problems, local)
        except BaseException:
            self.delete(ticket)
            raise
        return ticket

    def start(
        self,
        ticket: str,
        client: KolboClient,
        visitor: str,
        again: bool = False,
        spending: Spending | None = None,
        local: bool = False,
    ) -> None:
        """Begins it, or goes on with it. `again` and `local` as in `Batch`; `spending` as in `Run`.
        Raises `InputError`, a `QuotaError` too, and `KolboError`."""
        self.quota.check(visitor)
        dry_run = self._dry_run(ticket)
        if dry_run is None:
            raise InputError(say("cards.gone"))
        problems, _ = dry_run
        rows = self._rows(ticket, problems, local)  # links judged for where they go now
        at_once = PRIVATE_AT_ONCE if self._private else PUBLIC_AT_ONCE
        starts = STARTS_PER_MINUTE if self._private else PUBLIC_STARTS
        with self._starting:
            if ticket in self._running:
                return
            if not self._private and any(who == visitor for _, who in self._running.values()):
                raise InputError(say("batch.one_at_a_time"))
            batch = Batch(
                client,
                rows,
                self.folder(ticket),
                at_once,
                again,
                spending,
                starts,
                self._inspector,
                local,
                self._signer,
            )
            self._running[ticket] = batch, visitor
            self._note(ticket, problems, local)
        threading.Thread(
            target=self._run, args=(ticket, batch, visitor), name="kolbo-page-batch", daemon=True
        ).start()

    def stop(self, ticket: str) -> None:
        """Starts no more rows."""
        if found := self._running.get(ticket):
            found[0].stop()

    def view(self, ticket: str) -> View | None:
        """Where it stands; None where nothing of it is kept. Raises `InputError` where its folder
        is damaged."""
        if found := self._running.get(ticket):
            batch = found[0]
            return View(list(batch.statuses), True, started=True, archived=False, local=batch.local)
        dry_run = self._dry_run(ticket)
        if dry_run is None:
            return None
        rows = self._rows(ticket, *dry_run)
        store = BatchStore(self.folder(ticket))
        archived = self.file(ticket, ARCHIVE) is not None
        started = archived or self.file(ticket, "batch.json") is not None
        lines = [_left(store.load(row)) if started else RowStatus(row) for row in rows]
        return View(lines, False, started, archived, dry_run[1])

    def served(self, name: str) -> Served | None:
        """The file of this path, if it is a result and its folder's ticket gives access to it."""
        path = Path(name)
        known = path.name in {ARCHIVE, REPORT} or _VIDEO.fullmatch(path.name)
        if not known or path.parent.parent != self.root or path.is_symlink():
            return None
        found = self.file(path.parent.name, path.name)
        return Served(found, _TYPES[found.suffix], found.name, constant=False) if found else None

    def expired(self, ticket: str, seconds: float) -> bool:
        """Earlier where it was never started."""
        unstarted = seconds > UNSTARTED_SECONDS and self._unstarted(ticket)
        return unstarted or super().expired(ticket, seconds)

    def _unstarted(self, ticket: str) -> bool:
        made = ("batch.json", ARCHIVE)
        return not self.busy(ticket) and not any(self.file(ticket, name) for name in made)

    def _replace(self, visitor: str) -> None:
        """Removes what a visitor had checked and did not start."""
        if self._private:
            return
        with self._starting:
            for ticket in self.tickets():
                checked = self.file(ticket, _CHECKED) is not None  # else its check is under way
                mine = self.quota.owns(self.folder(ticket), visitor)
                if mine and checked and self._unstarted(ticket):
                    self.delete(ticket)

    def _few(self, inputs: Path) -> list[Row]:
        rows = _rows(inputs)
        if not self._private and len(rows) > PUBLIC_ROWS:
            raise InputError(say("batch.too_many", rows=len(rows), most=PUBLIC_ROWS))
        return rows

    def _run(self, ticket: str, batch: Batch, visitor: str) -> None:
        try:
            for _ in batch.run():
                self._check_room(batch, visitor)
        except Exception:  # noqa: BLE001 - logged below
            # What is done stays done, and can be gone on with. A visitor may have deleted it.
            if self.folder(ticket).is_dir():
                _log.exception("A batch of the page ended early")
        finally:
            self._running.pop(ticket, None)
            self.quota.fit()

    def _check_room(self, batch: Batch, visitor: str) -> None:
        """Starts no more rows where there is no room for their videos."""
        try:
            self.quota.check(visitor)
        except QuotaError:
            batch.stop()

    def _note(self, ticket: str, problems: Problems, local: bool) -> None:
        found = json.dumps({"problems": problems, "local": local})
        self.write(ticket, _CHECKED, found.encode())

    def _dry_run(self, ticket: str) -> tuple[Problems, bool] | None:
        """Problems that the dry run found, and whether it was for the local service; None without
        a dry run."""
        path = self.file(ticket, _CHECKED)
        if path is None:
            return None
        found = json.loads(path.read_bytes())
        return found.get("problems", {}), found.get("local", False)

    def _rows(self, ticket: str, problems: Problems, local: bool) -> list[Row]:
        rows = [
            replace(row, problem=problems.get(str(row.number), row.problem))
            for row in _rows(self.folder(ticket) / _INPUTS)
        ]
        return check_links(rows, self._policy) if local else rows


def _left(line: RowStatus) -> RowStatus:
    """A row's status after an earlier run; failed if the row cannot work."""
    problem = line.row.problem
    return replace(line, state="failed", message=problem) if problem else line


def _rows(inputs: Path) -> list[Row]:
    lists = [path for path in inputs.iterdir() if path.suffix.lower() == ".csv"]
    if len(lists) > 1:
        raise InputError(say("batch.several_lists"))
    if not lists:
        return read_pairs(inputs)
    files = {path.name: path for path in inputs.iterdir() if path not in lists}
    return read_csv(lists[0], upload_resolver(files))

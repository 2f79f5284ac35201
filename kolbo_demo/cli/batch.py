"""`batch`: generate the rows of a CSV or a folder."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kolbo_demo.cli.backend import ApiKey, ApiKeyFile, BaseUrl, Insist, Local, open_client, read_key
from kolbo_demo.cli.console import message
from kolbo_demo.cli.errors import CommandError

if TYPE_CHECKING:
    from kolbo_demo.batch import Row


def batch(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS.csv|FOLDER",
            help="A CSV with the columns source, audio or words, and perhaps prompt, model, face, "
            "speed, mark, insist; "
            "or a folder in which a picture or clip and a recording or .txt share their name.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where videos, reports and batch.zip go."),
    ] = Path("batch"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at every row, send nothing.")
    ] = False,
    at_once: Annotated[int, typer.Option(min=1, max=10, help="Rows in flight.")] = 4,
    again: Annotated[
        bool, typer.Option("--again", help="Also rows that may have been accepted before.")
    ] = False,
    insist: Insist = False,
    local: Local = False,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    base_url: BaseUrl = None,
) -> None:
    """Make a video of every row. Run it again to go on where it stopped."""
    from kolbo_demo.batch import (
        Batch,
        check_links,
        check_rows,
        folder_resolver,
        read_csv,
        read_pairs,
    )
    from kolbo_demo.credentials.signing import Signer
    from kolbo_demo.service.fetch import Policy
    from kolbo_demo.settings import Settings

    found = read_pairs(rows) if rows.is_dir() else read_csv(rows, folder_resolver(rows.parent))
    if insist:
        found = [replace(row, options=row.options.replace(insist=True)) for row in found]
    key = read_key(api_key, api_key_file)
    with ExitStack() as stack:
        client = None
        if not dry_run or local or key or Settings().api_key:
            client = stack.enter_context(open_client(local, key, base_url))
        found = check_rows(found, client)
        if local:
            found = check_links(found, Policy(Settings().fetch_allow_hosts))
        if client is None or dry_run:
            _print_checks(found, local)
            return
        run = Batch(client, found, output, at_once, again, local=local, signer=Signer(Settings()))
        states: dict[int, str] = {}
        try:
            for status in run.run():
                row = status.row
                if states.get(row.number) != status.state:
                    states[row.number] = status.state
                    message(_format_row(row.number, row.name, status.state, status.message))
        except KeyboardInterrupt:
            raise CommandError("Interrupted. The same command goes on from here.", 130) from None
        except OSError as error:
            raise CommandError(f"Cannot write to “{output}”: {error.strerror}.", 1) from None
    completed = sum(status.state == "completed" for status in run.statuses)
    print(output / "batch.zip")
    if completed < len(run.statuses):
        raise CommandError(
            f"{completed} of {len(run.statuses)} rows are done. report.csv tells why.", 1
        )


def _print_checks(rows: "list[Row]", local: bool) -> None:
    """Print the result of a dry run. Raises CommandError if a row is unusable."""
    for row in rows:
        note = row.problem
        if row.linked and not local and not note:
            note = "A link was not checked: Kolbo fetches it itself."
        state = "problem" if row.problem else "ready"
        print(_format_row(row.number, row.name, state, note))
    if unusable := sum(bool(row.problem) for row in rows):
        raise CommandError(f"{unusable} of {len(rows)} rows cannot work.", 2)


def _format_row(number: int, name: str, state: str, note: str | None) -> str:
    """One line without control characters."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"{number:>4}  {state:<9}  {printable}" + (f": {note}" if note else "")

"""`worker`: render the jobs of other machines."""

import os
from typing import Annotated

import typer

from kolbo_demo.cli.console import message
from kolbo_demo.cli.errors import CommandError


def worker(
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for every core if not said.")
    ] = None,
) -> None:
    """Render what pages and services on the same PostgreSQL have accepted (KOLBO_DATABASE_URL)."""
    from kolbo_demo import private_folder
    from kolbo_demo.process.child import cpu_count
    from kolbo_demo.service.errors import ServiceError
    from kolbo_demo.service.worker import run_workers
    from kolbo_demo.settings import Settings

    os.umask(private_folder.UMASK)
    try:
        run_workers(Settings(), processes or cpu_count())
    except ServiceError as error:
        raise CommandError(str(error), 2) from None
    except KeyboardInterrupt:
        message("Stopped. Other workers finish what this one started.")

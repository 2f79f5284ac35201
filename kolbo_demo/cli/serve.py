"""`serve`: run the local service."""

import os
import sys
import threading
from contextlib import suppress
from typing import Annotated

import typer

from kolbo_demo.cli.console import message
from kolbo_demo.cli.errors import CommandError

STOP_TIMEOUT_SECONDS = 9.5
"""Process managers kill after ten."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Run the local service alone: Kolbo's API under http://HOST:PORT/api."""
    from kolbo_demo import logs, private_folder
    from kolbo_demo.process.exit_deadline import exit_within
    from kolbo_demo.service.app import serving
    from kolbo_demo.service.errors import ServiceError
    from kolbo_demo.settings import Settings

    os.umask(private_folder.UMASK)
    exit_within(STOP_TIMEOUT_SECONDS)
    settings = Settings()
    logs.configure(settings.log)
    if settings.log == "json" and settings.local_api_key is None:
        raise CommandError("Set KOLBO_LOCAL_API_KEY: a JSON log does not show a generated key.", 2)
    try:
        with serving(settings, host, port) as service:
            logs.announce(f"Kolbo's API, by this machine: {service.base_url}", sys.stderr)
            if settings.local_api_key is None:
                message(
                    f"X-API-Key: {service.api_key.get_secret_value()}\n"
                    "(made for this run; set KOLBO_LOCAL_API_KEY to choose one)"
                )
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            message(
                "Stopping. Generations may finish within seconds; the next start resumes the rest."
            )
    except ServiceError as error:
        raise CommandError(str(error), 2) from None

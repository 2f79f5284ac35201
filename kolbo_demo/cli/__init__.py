"""The command line: generate, batch, models, voices, verify, serve, worker.

Results go to stdout, messages for people to stderr. Exit codes: 0 done, 2 unusable input, 1 any
other failure, 130 interrupted; `serve` exits with 0 after SIGTERM. Heavy modules are imported where
they are used, so that `--help` and mistakes respond at once.
"""

import signal
import sys
from typing import NoReturn

import typer

from kolbo_demo.cli.batch import batch
from kolbo_demo.cli.console import message
from kolbo_demo.cli.errors import CommandError, describe_error
from kolbo_demo.cli.generate import generate
from kolbo_demo.cli.models import models
from kolbo_demo.cli.serve import serve
from kolbo_demo.cli.verify import verify
from kolbo_demo.cli.voices import voices
from kolbo_demo.cli.worker import worker

app = typer.Typer(
    help="Make a portrait or a clip say what a recording says.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (generate, models, voices, batch, verify, serve, worker):
    app.command()(command)


def main() -> NoReturn:
    """Run the command line and exit. Every error becomes a sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr] - a TextIOWrapper
    for interruption in (signal.SIGINT, signal.SIGTERM):  # both cancel, in the background as well
        signal.signal(interruption, signal.default_int_handler)
    try:
        app(prog_name="python -m kolbo_demo")
    except CommandError as error:
        message(str(error))
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort, so that no traceback is shown
        text, exit_code = describe_error(error)
        message(text)
        sys.exit(exit_code)
    sys.exit(0)

"""The options that choose between Kolbo's cloud and the local engine, and the client they mean."""

import gc
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kolbo_demo.cli.errors import CommandError

if TYPE_CHECKING:
    from kolbo_demo.client import KolboClient

Local = Annotated[
    bool, typer.Option("--local", help="Use the engine on this machine. Needs no key, no server.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Key for Kolbo's cloud. Better set KOLBO_API_KEY or give --api-key-file: other users "
        "of this machine can see what is on a command line.",
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="A file that holds the key and nothing else; - reads standard input."
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Base of the API. Else KOLBO_API_URL, else Kolbo's cloud."),
]
Insist = Annotated[
    bool, typer.Option("--insist", help="Render a source whose mouth is not visible, too.")
]
Json = Annotated[bool, typer.Option("--json", help="Print what the API said, as JSON.")]


def read_key(api_key: str | None, file: Path | None) -> str | None:
    """The key of either option; None leaves it to KOLBO_API_KEY. Raises CommandError."""
    if file is None:
        return api_key
    if api_key is not None:
        raise CommandError("Give either --api-key or --api-key-file, one of the two.", 2)
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as opened:
            key = opened.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        # Without its name, which may be the key itself by mistake.
        raise CommandError(f"The file of --api-key-file cannot be read ({reason}).", 2) from None
    if not key or any(letter.isspace() for letter in key):
        raise CommandError("The file of --api-key-file must hold the key and nothing else.", 2)
    return key


@contextmanager
def open_client(local: bool, api_key: str | None, base_url: str | None) -> "Iterator[KolboClient]":
    """A client of Kolbo's cloud, or of a local service that lives as long as this command."""
    with fast_imports():
        from kolbo_demo.client import KolboClient
        from kolbo_demo.settings import Settings

    if not local:
        if not (api_key or Settings().api_key):
            raise CommandError(
                "There is no Kolbo API key. Add --local to use the engine on this machine, or set "
                "KOLBO_API_KEY to use Kolbo's cloud.",
                2,
            )
        yield KolboClient(api_key, base_url)
        return
    if api_key or base_url:
        raise CommandError("--local goes without a key and --base-url: drop one or the other.", 2)
    with fast_imports():
        from kolbo_demo.media import sandbox
        from kolbo_demo.service import render_pool
        from kolbo_demo.service.errors import ServiceError

    with ExitStack() as stack:
        # The engine loads in its own process while this one loads the service.
        server = render_pool.new_fork_server()
        server.preload()
        stack.callback(server.close)
        stack.enter_context(sandbox.use_fork_server(server))
        with fast_imports():
            from kolbo_demo.service.app import serving

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kolbo-")))
        settings = Settings(data_dir=folder, signing_dir=Settings().signing_folder)
        try:
            service = stack.enter_context(serving(settings, server=server))
        except ServiceError as error:
            raise CommandError(str(error), 1) from None
        if problem := render_pool.engine_problem(server):
            raise CommandError(problem, 1)
        yield KolboClient(service.api_key, service.base_url)


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import without garbage collection, a fifth faster because what imports allocate stays, and
    without building pydantic's validators before they are used."""
    from pydantic import BaseModel

    gc.disable()
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]
        gc.freeze()
        gc.enable()

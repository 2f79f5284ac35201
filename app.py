"""Serves the page and the local service: `python app.py`."""

import contextlib
import ipaddress
import os
import secrets
import sys
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from kolbo_demo import logs, private_folder
from kolbo_demo.service.app import create_app
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.hostnames import Site
from kolbo_demo.service.http_server import Server
from kolbo_demo.settings import Settings, describe_error


def _client_host(host: str) -> str:
    """The host to connect to for a server on this machine that listens on `host`."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host
    return "127.0.0.1" if everywhere else host


def _page_token(settings: Settings) -> str | None:
    """The token that allows use of the owner's key, because other users of this machine can open
    the page too; None if it is not needed."""
    configured = settings.page_token.get_secret_value() if settings.page_token else None
    if settings.api_key is None or configured == "off":
        return None
    return configured or secrets.token_urlsafe(24)


def _exit_with_error(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(2)


def _port() -> int:
    text = os.environ.get("GRADIO_SERVER_PORT", "7860")
    if not (text.isdecimal() and int(text) < 2**16):
        _exit_with_error("GRADIO_SERVER_PORT must be a number from 0 to 65535, such as 7860.")
    return int(text)


def _create_folder(folder: Path, setting: str) -> None:
    try:
        private_folder.create(folder)
    except OSError as error:
        _exit_with_error(
            f"The folder {folder} cannot be used ({error.strerror}); set {setting} to another one."
        )


def main() -> None:
    """Read the environment and serve until stopped."""
    try:
        settings = Settings()
    except ValidationError as error:
        _exit_with_error(describe_error(error))
    # Gradio's own variables; a Hugging Face Space sets them.
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = _port()
    os.umask(private_folder.UMASK)
    # Without it the page still starts, for Kolbo's cloud, and says why the service does not.
    private_folder.try_create(settings.data_dir.expanduser())
    logs.configure(settings.log)
    site = Site.of(settings, host)
    private = site.only_loopback
    token = _page_token(settings) if private else None
    temp_dir = os.environ.get("GRADIO_TEMP_DIR")
    # Gradio's default is one folder for all users of the machine. Resolved, because Gradio compares
    # file names with it as they are, and the page resolves links.
    folder = Path(temp_dir or settings.data_dir / "gradio").expanduser().resolve()
    _create_folder(folder, "GRADIO_TEMP_DIR" if temp_dir else "KOLBO_DATA_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        app = create_app(settings)
    except ServiceError as error:
        _exit_with_error(str(error))

    from kolbo_demo import ui  # Gradio, which reads its variables when it is imported

    if not temp_dir:
        ui.clean_uploads(folder)

    client_host = _client_host(host)
    local = ui.Local(
        f"http://{client_host}:{port}/api",
        app.state.keys.visitor_key("page"),
        lambda: app.state.api.problem or app.state.api.jobs.engine_problem(),
        app.state.keys.visitor_key,
    )
    ui.mount(app, ui.build(settings, local, private=private), site, token)
    query = f"/?token={token}" if token else ""
    logs.announce(f"Kolbo Lipsync is at http://{client_host}:{port}{query}", sys.stdout)
    if site.public:
        logs.announce(f"Visitors reach it at {site.public}", sys.stdout)
    with contextlib.suppress(KeyboardInterrupt):
        Server(app, settings.proxies_for(host), host, port).run()


if __name__ == "__main__":
    main()

"""Serves the page and the local service: `python app.py`."""

import ipaddress
import os
import secrets
import sys
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from kolbo_demo import logs, private_folder
from kolbo_demo.service.app import create_app
from kolbo_demo.service.hostnames import Site
from kolbo_demo.settings import Settings, problem


def _reach(host: str) -> str:
    """Where this process reaches a server that listens on `host`."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host
    return "127.0.0.1" if everywhere else host


def _token(settings: Settings) -> str | None:
    """The token for the use of the owner's key: other users of this machine reach the page too."""
    chosen = settings.page_token.get_secret_value() if settings.page_token else None
    if settings.api_key is None or chosen == "off":
        return None
    return chosen or secrets.token_urlsafe(24)


def _stop(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def _port() -> int:
    text = os.environ.get("GRADIO_SERVER_PORT", "7860")
    if not (text.isdecimal() and int(text) < 2**16):
        _stop("GRADIO_SERVER_PORT must be a number from 0 to 65535, such as 7860.")
    return int(text)


def _make(folder: Path, setting: str) -> None:
    try:
        private_folder.make(folder)
    except OSError as error:
        _stop(
            f"The folder {folder} cannot be used ({error.strerror}); set {setting} to another one."
        )


def main() -> None:
    """Reads the environment and serves until stopped."""
    try:
        settings = Settings()
    except ValidationError as error:
        _stop(problem(error))
    # The names that Gradio itself reads; a Hugging Face Space sets them.
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = _port()
    os.umask(private_folder.UMASK)
    _make(settings.data_dir.expanduser(), "KOLBO_DATA_DIR")
    logs.configure(settings.log)
    site = Site.of(settings, host)
    private = site.only_loopback
    token = _token(settings) if private else None
    given = os.environ.get("GRADIO_TEMP_DIR")
    # Gradio's own choice is one folder for all users of the machine. It compares names of files
    # with this one as they are, and the page takes files by names without links.
    folder = Path(given or settings.data_dir / "gradio").expanduser().resolve()
    _make(folder, "GRADIO_TEMP_DIR" if given else "KOLBO_DATA_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)

    from kolbo_demo import ui  # Gradio, which reads its variables when it is imported

    if not given:
        ui.clean_uploads(folder)

    app = create_app(settings)
    reach = _reach(host)
    local = ui.Local(
        f"http://{reach}:{port}/api",
        app.state.keys.visitor_key("page"),
        lambda: app.state.api.problem or app.state.api.jobs.engine_problem(),
        app.state.keys.visitor_key,
    )
    ui.mount(app, ui.build(settings, local, private=private), site, token)
    query = f"/?token={token}" if token else ""
    logs.announce(f"Kolbo Lipsync is at http://{reach}:{port}{query}", sys.stdout)
    if site.public:
        logs.announce(f"Visitors reach it at {site.public}", sys.stdout)
    ui.serve(app, host, port, settings.proxies_for(host))


if __name__ == "__main__":
    main()

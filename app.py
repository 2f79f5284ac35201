"""Serves the page and the local service: `python app.py`."""

import ipaddress
import os
import secrets
import sys
from pathlib import Path

from pydantic import ValidationError

from kolbo_demo import logs, private_folder, ui
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


def main() -> None:
    """Reads the environment and serves until stopped."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(problem(error))
    os.umask(private_folder.UMASK)
    private_folder.prepare(settings.data_dir.expanduser())
    logs.configure(settings.log)
    # The names that Gradio itself reads; a Hugging Face Space sets them.
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    site = Site.of(settings, host)
    private = site.only_loopback
    token = _token(settings) if private else None
    given = os.environ.get("GRADIO_TEMP_DIR")
    # Gradio's own choice is one folder for all users of the machine. It compares names of files
    # with this one as they are, and the page takes files by names without links.
    folder = Path(given or settings.data_dir / "gradio").expanduser().resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    if not given:
        ui.clean_uploads(folder)

    app = create_app(settings)
    reach = _reach(host)
    local = ui.Local(
        f"http://{reach}:{port}/api",
        app.state.keys.visitor_key("page"),
        lambda: app.state.api.problem or app.state.api.jobs.problem(),
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

"""nginx and Caddy before a page, with the configurations that docs/operations.md gives."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[2]
NAME = "lips.example.com"
USER = 65534
"""Proxies need no root; only root can become somebody else."""
START_SECONDS = 20
_NGINX = """
daemon off; pid {home}/pid; error_log {home}/log;
events {{}}
http {{
    access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/1; uwsgi_temp_path {home}/2; scgi_temp_path {home}/3;
{server}
}}
"""
_CADDY = """
{{
    admin off
    grace_period 1s
    auto_https disable_redirects
    storage file_system {home}
}}
{server}
"""


def documented(language: str) -> str:
    """The example of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, language
    return found[1]


def nginx_with(location: str) -> str:
    """The documented server with another `location`."""
    server, count = re.subn(r"    location .*?\n    }\n", location, documented("nginx"), flags=re.S)
    assert count == 1
    return server


@contextmanager
def proxied(program: str, server: str, port: int, page: int) -> Iterator[None]:
    """`nginx` or `caddy`, unprivileged, with TLS on `port` of loopback for the page on `page`."""
    home = Path(tempfile.mkdtemp(prefix="proxy-"))  # pytest's folders are closed to other users
    certificate = trustme.CA().issue_cert(NAME, "127.0.0.1", "::1")
    certificate.private_key_pem.write_to_path(str(home / "key"))
    for part in certificate.cert_chain_pems:
        part.write_to_path(str(home / "crt"), append=True)
    server = server.replace("127.0.0.1:7860", f"127.0.0.1:{page}")
    if program == "nginx":
        server = (
            server.replace("listen 443", f"listen 127.0.0.1:{port}")
            .replace("listen [::]:443", f"listen [::1]:{port}")
            .replace(f"/etc/ssl/{NAME}.", f"{home}/")
        )
        (home / "config").write_text(_NGINX.format(home=home, server=server))
        command = ["nginx", "-p", str(home), "-e", str(home / "log"), "-c", str(home / "config")]
    else:
        tls = f"{NAME}:{port} {{\n    bind 127.0.0.1 ::1\n    tls {home}/crt {home}/key"
        server = server.replace(f"{NAME} {{", tls)
        (home / "config").write_text(_CADDY.format(home=home, server=server))
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(home / "config")]
    other: dict = {}
    if os.geteuid() == 0:
        other = {"user": USER, "group": USER, "extra_groups": []}
        for path in (home, *home.iterdir()):
            os.chown(path, USER, USER)
    path = f"{os.environ['PATH']}:/usr/sbin"
    log = (home / "out").open("wb")
    process = subprocess.Popen(
        [shutil.which(command[0], path=path) or command[0], *command[1:]],
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=home,
        env={"PATH": path, "HOME": str(home)},
        start_new_session=True,
        **other,
    )
    try:
        _await(port, process, home)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        log.close()
        shutil.rmtree(home, ignore_errors=True)


def _await(port: int, process: subprocess.Popen, home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("\n".join(p.read_text() for p in (home / "out", home / "log") if p.exists()))

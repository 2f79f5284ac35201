"""Serves the app until it is stopped."""

import contextlib

from fastapi import FastAPI

from kolbo_demo.service.http_server import ConnectionLimits, Server


def serve(
    app: FastAPI,
    host: str,
    port: int,
    proxies: str = "127.0.0.1",
    limits: ConnectionLimits | None = None,
) -> None:
    """Blocks until an interrupt or a SIGTERM. `proxies` are trusted with `X-Forwarded-For`."""
    with contextlib.suppress(KeyboardInterrupt):
        Server(app, proxies, host, port, limits).run()

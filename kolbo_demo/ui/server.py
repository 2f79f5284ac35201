"""Serves the app until it is stopped."""

import asyncio
import contextlib
import socket

import uvicorn
from fastapi import FastAPI

GRACE_SECONDS = 1.0
"""For requests under way when the server is told to stop."""


class _Server(uvicorn.Server):
    """Stops although every open page holds a connection for ever."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.close()


def serve(app: FastAPI, host: str, port: int, proxies: str = "127.0.0.1") -> None:
    """Blocks until an interrupt or a SIGTERM. `proxies` are believed whom they forward for."""
    with contextlib.suppress(KeyboardInterrupt):
        _Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                forwarded_allow_ips=proxies,
            )
        ).run()

"""The service as an app, to be mounted beside a page or served alone."""

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool

from kolbo_demo.process.fork_server import ForkServer
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.gate import Gate
from kolbo_demo.service.health import Health
from kolbo_demo.service.hostnames import Site
from kolbo_demo.service.http_server import ConnectionLimits, Server
from kolbo_demo.service.job_queue import Jobs
from kolbo_demo.service.rate_limit import Keys, Limits
from kolbo_demo.service.retention import Retention
from kolbo_demo.service.routes import Api
from kolbo_demo.service.supervisor import Guard
from kolbo_demo.settings import Settings

START_SECONDS = 30.0


@dataclass(frozen=True)
class LocalService:
    """A service that answers: where, and with which key."""

    base_url: str
    """`/api` included."""
    api_key: SecretStr


def create_app(
    settings: Settings, limits: Limits | None = None, server: ForkServer | None = None
) -> FastAPI:
    """An app with Kolbo's endpoints under `/api/v1`; other paths are free for a page.

    `app.state.keys` are the keys that it takes. The work begins with the app's lifespan. Where
    it cannot (the data folder is in use, say), the app runs all the same and the endpoints answer
    503 with the reason, which `app.state.api.problem` holds, until it can. `server` is that of
    `Jobs`.
    """
    keys = Keys(settings.local_api_key)
    jobs = Jobs(settings, renders=settings.render, server=server)
    retention = Retention(jobs, settings)
    guard = Guard(jobs)
    api = Api(jobs, guard, retention, keys, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(guard.start)
        retention.start()
        # What is loaded by now stays. Walking over it, which Python does now and then, holds all
        # answers up for a tenth of a second.
        gc.freeze()
        try:
            yield
        finally:
            await run_in_threadpool(retention.stop)
            await run_in_threadpool(guard.stop)

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.state.keys = keys
    app.state.api = api
    app.include_router(Health(guard).router())
    app.mount("/api", api.app())
    return app


@contextlib.contextmanager
def serving(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits | None = None,
    connections: ConnectionLimits | None = None,
    server: ForkServer | None = None,
) -> Iterator[LocalService]:
    """Serve in a thread of this process until the block ends; port 0 takes a free one. `server` is
    that of `Jobs`.

    Raises ServiceError where the port or the data folder cannot be had. One at a time in a
    process; a caller who needs no history gives settings with a temporary `data_dir`.
    """
    app = create_app(settings, limits, server)
    with _listening(host, port) as listener:
        http = Server(
            Gate(app, Site.of(settings, host, any_name=True)),
            settings.proxies_for(host),
            limits=connections,
        )
        thread = threading.Thread(target=http.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _await_start(http, thread)
            if problem := app.state.api.problem:
                raise ServiceError(problem)
            number = listener.getsockname()[1]
            name = f"[{host}]" if ":" in host else host
            yield LocalService(f"http://{name}:{number}/api", app.state.keys.first)
        finally:
            http.stop()
            thread.join()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by its number, which socket.create_server leaves out: asyncio switches Nagle's delay of
    # 40 ms an answer off for no other.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ServiceError(
            f"Cannot listen on {host} port {port} ({reason}); choose another port."
        ) from error
    return listener


def _await_start(server: Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServiceError("The local service did not start; its log says why.")
        time.sleep(0.02)

"""The service as an ASGI app, mounted beside a page or served alone."""

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
from kolbo_demo.service import health
from kolbo_demo.service.auth import ApiKeys
from kolbo_demo.service.dependencies import Api
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.gate import Gate
from kolbo_demo.service.hostnames import Site
from kolbo_demo.service.http_server import ConnectionLimits, Server
from kolbo_demo.service.job_queue import JobQueue
from kolbo_demo.service.rate_limit import Limits
from kolbo_demo.service.retention import Retention
from kolbo_demo.service.routes import create_api
from kolbo_demo.service.supervisor import Supervisor
from kolbo_demo.settings import Settings

START_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class LocalService:
    """URL and key of a running service."""

    base_url: str
    """`/api` included."""
    api_key: SecretStr


def create_app(
    settings: Settings, limits: Limits | None = None, server: ForkServer | None = None
) -> FastAPI:
    """An app with Kolbo's endpoints under `/api/v1`; other paths are free for a page.

    `app.state.keys` are its keys. The job queue starts with the app's lifespan. While it cannot
    (the data folder is in use, for example), the endpoints return 503 with the reason,
    `app.state.api.problem`. `server` is passed to `JobQueue`.
    """
    keys = ApiKeys(settings.local_api_key)
    jobs = JobQueue(settings, renders=settings.render, server=server)
    retention = Retention(jobs, settings)
    supervisor = Supervisor(jobs)
    api = Api(jobs, supervisor, retention, keys, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(supervisor.start)
        retention.start()
        # A garbage collection of what is loaded by now would delay responses by 0.1 s.
        gc.freeze()
        try:
            yield
        finally:
            await run_in_threadpool(retention.stop)
            await run_in_threadpool(supervisor.stop)

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.state.keys = keys
    app.state.api = api
    app.state.supervisor = supervisor
    app.include_router(health.router)
    app.mount("/api", create_api(api))
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
    """Serve in a thread of this process during the block; port 0 is a free one. `server` is
    passed to `JobQueue`.

    Raises ServiceError if port or data folder are unavailable. Only one service runs in a process
    at a time; a caller that needs no history gives settings with a temporary `data_dir`.
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
            yield LocalService(f"http://{name}:{number}/api", app.state.keys.default)
        finally:
            http.stop()
            thread.join()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol number, unlike socket.create_server: asyncio needs it to switch off Nagle's
    # algorithm, which delays responses by 40 ms.
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
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServiceError("The local service did not start; its log says why.")
        time.sleep(0.02)

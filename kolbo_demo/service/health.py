"""`/healthz` and `/metrics`, for those who run the service."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo.service import observe
from kolbo_demo.service.jobs import Jobs

FRESH_SECONDS = 0.5
"""An answer is used again for so long: whoever asks without end costs one look at the database."""


class Health:
    """How a service is: ready or not and why, what waits, what runs."""

    def __init__(self, jobs: Jobs, problem: Callable[[], str | None]) -> None:
        self._jobs = jobs
        self._problem = problem
        self._looked = 0.0
        self._last: dict[str, Any] = {}

    def router(self) -> APIRouter:
        """The two addresses, which take no key."""
        router = APIRouter()
        router.add_api_route("/healthz", self.healthz, methods=["GET", "HEAD"])
        router.add_api_route("/metrics", self.metrics, methods=["GET"])
        return router

    def look(self) -> dict[str, Any]:
        """`ready`, `queue` (generations that wait), `running`, `workers` (renders side by side that
        there is room for), and `problem`, one sentence, where it is not ready. Blocks."""
        if time.monotonic() - self._looked < FRESH_SECONDS and self._last:
            return self._last
        queue = running = workers = 0
        problem = self._problem()
        if problem is None:
            try:
                queue, running = self._jobs.load()
                workers = self._jobs.workers()
            except SQLAlchemyError:
                problem = "The database does not answer."
        self._last = {
            "ready": problem is None,
            "queue": queue,
            "running": running,
            "workers": workers,
        } | ({"problem": problem} if problem else {})
        self._looked = time.monotonic()
        return self._last

    def healthz(self) -> Response:
        """`GET /healthz`: 200 where a generation can be started, 503 where not."""
        found = self.look()
        return JSONResponse(
            found,
            status_code=200 if found["ready"] else 503,
            headers={"Cache-Control": "no-store"},
        )

    def metrics(self) -> Response:
        """`GET /metrics`: Prometheus's text format."""
        found = self.look()
        for name in ("ready", "queue", "running", "workers"):
            observe.now(name, found[name])
        return Response(generate_latest(observe.REGISTRY), media_type=CONTENT_TYPE_LATEST)

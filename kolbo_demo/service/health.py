"""`/healthz` and `/metrics`, for those who run the service."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kolbo_demo.service import metrics
from kolbo_demo.service.supervisor import Guard


class Health:
    """Readiness of a service, with the reason where it is not, queue and running renders.

    Both routes answer from the last values of the guard, so no thread or database delays them.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def router(self) -> APIRouter:
        """The two addresses, which take no key."""
        router = APIRouter()
        router.add_api_route("/healthz", self.healthz, methods=["GET", "HEAD"])
        router.add_api_route("/metrics", self.metrics, methods=["GET"])
        return router

    def look(self) -> dict[str, Any]:
        """`ready`, `queue` (generations that wait), `running`, `workers` (renders side by side that
        there is room for), and `problem`, one sentence, where it is not ready. Some
        seconds old at most."""
        problem = self._guard.problem or self._guard.engine
        queue, running = self._guard.load
        return {
            "ready": problem is None,
            "queue": queue,
            "running": running,
            "workers": 0 if self._guard.blind else self._guard.workers,
        } | ({"problem": problem} if problem else {})

    async def healthz(self) -> Response:
        """`GET /healthz`: 200 where a generation can be started, 503 where not."""
        found = self.look()
        return JSONResponse(
            found,
            status_code=200 if found["ready"] else 503,
            headers={"Cache-Control": "no-store"},
        )

    async def metrics(self) -> Response:
        """`GET /metrics`: Prometheus's text format."""
        found = self.look()
        for name in ("ready", "queue", "running", "workers"):
            metrics.now(name, found[name])
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

"""`/healthz` and `/metrics`, for operators."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kolbo_demo.service import metrics
from kolbo_demo.service.supervisor import Supervisor


class Health:
    """Readiness and load of a service.

    Both routes return the last values of the supervisor, so no thread or database delays them.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def router(self) -> APIRouter:
        """The two routes, which need no key."""
        router = APIRouter()
        router.add_api_route("/healthz", self.healthz, methods=["GET", "HEAD"])
        router.add_api_route("/metrics", self.metrics, methods=["GET"])
        return router

    def state(self) -> dict[str, Any]:
        """`ready`, `queue` (queued generations), `running`, `workers` (concurrent renders), and
        `problem`, one sentence, if not ready. At most some seconds old."""
        problem = self._supervisor.problem or self._supervisor.engine_problem
        queue, running = self._supervisor.load
        return {
            "ready": problem is None,
            "queue": queue,
            "running": running,
            "workers": 0 if self._supervisor.read_problem else self._supervisor.workers,
        } | ({"problem": problem} if problem else {})

    async def healthz(self) -> Response:
        """`GET /healthz`: 200 if a generation can be started, else 503."""
        state = self.state()
        return JSONResponse(
            state,
            status_code=200 if state["ready"] else 503,
            headers={"Cache-Control": "no-store"},
        )

    async def metrics(self) -> Response:
        """`GET /metrics`: Prometheus's text format."""
        state = self.state()
        for name in ("ready", "queue", "running", "workers"):
            metrics.set_gauge(name, state[name])
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

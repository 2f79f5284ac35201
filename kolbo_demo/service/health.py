"""`/healthz` and `/metrics`, for operators. Neither needs a key.

Both return the last values of the supervisor, so no thread or database delays them.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kolbo_demo.service import metrics
from kolbo_demo.service.supervisor import Supervisor

router = APIRouter()


async def _state(request: Request) -> dict[str, Any]:
    """`ready`, `queue` (queued generations), `running`, `workers` (concurrent renders), and
    `problem`, one sentence, if not ready. At most some seconds old."""
    supervisor: Supervisor = request.app.state.supervisor
    problem = supervisor.problem or supervisor.engine_problem
    queue, running = supervisor.load
    return {
        "ready": problem is None,
        "queue": queue,
        "running": running,
        "workers": 0 if supervisor.read_problem else supervisor.workers,
    } | ({"problem": problem} if problem else {})


State = Annotated[dict[str, Any], Depends(_state)]


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz(state: State) -> Response:
    """200 if a generation can be started, else 503."""
    return JSONResponse(
        state,
        status_code=200 if state["ready"] else 503,
        headers={"Cache-Control": "no-store"},
    )


@router.get("/metrics")
async def prometheus_metrics(state: State) -> Response:
    """Prometheus's text format."""
    for name in ("ready", "queue", "running", "workers"):
        metrics.set_gauge(name, state[name])
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

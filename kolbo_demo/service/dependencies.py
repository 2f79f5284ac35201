"""Dependencies of the API's routes: parts of the service, the caller, and rate limits."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from kolbo_demo.service.auth import VISITOR_PREFIX, ApiKeys
from kolbo_demo.service.job_queue import JobQueue
from kolbo_demo.service.rate_limit import ConcurrencyLimit, Limits, SlidingWindow
from kolbo_demo.service.retention import Retention
from kolbo_demo.service.status_cache import StatusCache
from kolbo_demo.service.supervisor import Supervisor


class Api:
    """The parts of one service that its routes use."""

    def __init__(
        self,
        jobs: JobQueue,
        supervisor: Supervisor,
        retention: Retention,
        keys: ApiKeys,
        limits: Limits,
    ) -> None:
        self.jobs, self.supervisor, self.retention = jobs, supervisor, retention
        self.keys, self.limits = keys, limits
        self.engine_works = False
        """Whether the engine was found to work. That does not change while the process runs."""
        self.statuses = StatusCache(jobs.find_all)
        self.starts = SlidingWindow(limits.generations)
        self.start_attempts = SlidingWindow(limits.polls)
        self.polls = SlidingWindow(limits.polls)
        self.uploads = ConcurrencyLimit(
            limits.uploads,
            f"You send {limits.uploads} requests at a time already; wait until one is through.",
        )

    @property
    def problem(self) -> str | None:
        """Why no generation can be started: one sentence, or None."""
        return self.supervisor.problem


@dataclass(frozen=True)
class Call:
    """A request with a valid API key."""

    api: Api
    caller: str


# Dependencies are async, as FastAPI runs others in a thread each. There is one a route: FastAPI
# resolves the dependencies of a dependency anew wherever it is named.
async def _api(request: Request) -> Api:
    return request.app.state.api


ApiDep = Annotated[Api, Depends(_api)]


def poll_limit(kind: str) -> Any:
    """A dependency that authenticates, and counts one poll of a kind of request: a `Call`.

    Raises ApiError 401 or 429.
    """

    async def check(
        request: Request,
        key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
    ) -> Call:
        api: Api = request.app.state.api
        caller = api.keys.authenticate(key)
        api.polls.acquire(f"{kind} {rate_limit_name(caller, request)}")
        return Call(api, caller)

    return Depends(check)


def rate_limit_name(caller: str, request: Request) -> str:
    """The name under which polls are counted: a visitor of the page, else the client address."""
    if caller.startswith(VISITOR_PREFIX):
        return caller
    return request.client.host if request.client else ""

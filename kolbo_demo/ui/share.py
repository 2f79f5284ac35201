"""A bound on what a route answers one visitor at a time: each request holds a shared thread."""

from collections.abc import AsyncIterator

from fastapi import HTTPException, Request

from kolbo_demo.service.gate import TOO_MANY_MESSAGE, caller_of
from kolbo_demo.service.rate_limit import ConcurrencyLimit, TooManyRequestsError

ANSWERS, WORK = 8, 2
"""At a time for what is looked up, and for what is made."""
_AGAIN_SECONDS = 2


class Share:
    """A dependency of FastAPI routes."""

    def __init__(self, most: int) -> None:
        self._under_way = ConcurrencyLimit(most, TOO_MANY_MESSAGE, _AGAIN_SECONDS)

    async def __call__(self, request: Request) -> AsyncIterator[None]:
        try:
            place = self._under_way.acquire(caller_of(request).visitor)
        except TooManyRequestsError as error:
            raise HTTPException(error.status, error.message, error.headers) from None
        with place:
            yield

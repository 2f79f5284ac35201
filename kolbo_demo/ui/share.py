"""A bound on what a route answers one visitor at a time: each request holds a shared thread."""

from collections import Counter
from collections.abc import AsyncIterator

from fastapi import HTTPException, Request

from kolbo_demo.service.gate import caller_of

ANSWERS, WORK = 8, 2
"""At a time for what is looked up, and for what is made."""


class Share:
    """A dependency of FastAPI routes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, request: Request) -> AsyncIterator[None]:
        visitor = caller_of(request).visitor
        if self._under_way[visitor] >= self._most:
            sentence = "Too many requests at once; wait for some to end."
            raise HTTPException(429, sentence, {"Retry-After": "2"})
        self._under_way[visitor] += 1
        try:
            yield
        finally:
            self._under_way[visitor] -= 1
            self._under_way += Counter()  # drops what is at 0

"""Bodies of requests that are no uploads: read whole, within bounds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.types import Message, Receive

from kolbo_demo.json_bounds import check_json

MAX_BODY_BYTES = 1024 * 1024
"""Of a request that is no upload."""
_BODY_SECONDS = 30.0
"""For the whole of such a body to arrive."""
_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_SECONDS = 10.0


class BodyError(Exception):
    """A body is refused with HTTP `status`, `code` and one sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises BodyError where it is too long, too slow, or JSON out of bounds."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in chunks(receive):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BodyError(
                        413,
                        "BODY_TOO_LARGE",
                        f"The request is over {MAX_BODY_BYTES >> 20} MB; upload files instead of "
                        "sending them along.",
                    )
    except TimeoutError:
        raise BodyError(408, "REQUEST_TIMEOUT", "The request took too long to arrive.") from None
    try:
        check_json(bytes(body))
    except ValueError as error:
        raise BodyError(400, "INVALID_JSON", str(error)) from None
    return bytes(body)


async def chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The parts of a body as they arrive, until it ends or the caller leaves."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def discard(body: AsyncIterator[bytes], most: int, seconds: float) -> None:
    """Read on for a while: an answer to a caller who is still sending is lost to most clients."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for chunk in body:
                most -= len(chunk)
                if most < 0:
                    return


async def drain(receive: Receive) -> None:
    """Discard the rest of a body that is no upload."""
    await discard(chunks(receive), _DRAIN_BYTES, _DRAIN_SECONDS)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read before."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again

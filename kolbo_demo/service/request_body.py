"""Limits on request bodies that are no uploads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.types import Message, Receive

from kolbo_demo.json_bounds import check_json

MAX_BODY_BYTES = 1024 * 1024
"""Of a request that is no upload."""
_BODY_TIMEOUT_SECONDS = 30.0
"""For the whole of such a body to arrive."""
_MAX_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_TIMEOUT_SECONDS = 10.0


class BodyError(Exception):
    """A body is refused with HTTP `status`, `code` and one sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises BodyError if it is too long, too slow, or JSON out of bounds."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_SECONDS):
            async for chunk in iter_chunks(receive):
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


async def iter_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Chunks of a body until it ends or the client disconnects."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def discard(body: AsyncIterator[bytes], max_bytes: int, seconds: float) -> None:
    """Read the rest of a body within limits: most clients lose a response that arrives while they
    still send."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for chunk in body:
                max_bytes -= len(chunk)
                if max_bytes < 0:
                    return


async def drain(receive: Receive) -> None:
    """Discard the rest of a body that is no upload."""
    await discard(iter_chunks(receive), _MAX_DRAIN_BYTES, _DRAIN_TIMEOUT_SECONDS)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body that was read before."""
    replayed = False

    async def receive_replayed() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_replayed

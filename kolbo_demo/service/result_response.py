"""A result file as it goes out, with threads of the service's own."""

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import anyio
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from kolbo_demo.service import metrics, thread_pool
from kolbo_demo.service.storage.files import Storage


class Found(NamedTuple):
    """A file on this machine."""

    path: Path
    stat: os.stat_result


def find(storage: Storage, name: str) -> Found | None:
    """A stored file, brought here where it lies elsewhere; None where there is none. Blocks.

    Raises OSError.
    """
    if not storage.exists(name):
        return None
    path = storage.local(name)
    return Found(path, path.stat())


class Sent(FileResponse):
    """A result file that stays while it goes out; its bytes are counted."""

    def __init__(
        self, keeping: AbstractContextManager[None], found: Found, media_type: str
    ) -> None:
        super().__init__(
            found.path,
            media_type=media_type,
            headers={"X-Content-Type-Options": "nosniff"},
            stat_result=found.stat,
        )
        self._keeping = keeping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            await send(message)
            metrics.moved("sent", len(message.get("body", b"")))

        with self._keeping:
            await super().__call__(scope, receive, counted)

    @contextlib.asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        # Starlette's own reads with the framework's threads.
        file = await thread_pool.run(thread_pool.DISK, Path(self.path).open, "rb")
        try:
            yield _File(file)
        finally:
            with anyio.CancelScope(shield=True):
                await thread_pool.run(thread_pool.DISK, file.close)


class _File(anyio.AsyncFile[bytes]):
    """A file that is read in the service's threads."""

    async def read(self, size: int = -1) -> bytes:
        return await thread_pool.run(thread_pool.DISK, self.wrapped.read, size)

    async def seek(self, offset: int, whence: int | None = os.SEEK_SET) -> int:
        return self.wrapped.seek(offset, whence or os.SEEK_SET)

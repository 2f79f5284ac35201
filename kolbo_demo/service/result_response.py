"""Response with a result file, read in the service's own threads."""

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


class LocalFile(NamedTuple):
    """A local file and its status."""

    path: Path
    stat: os.stat_result


def find(storage: Storage, name: str) -> LocalFile | None:
    """A stored file, downloaded from a remote backend; None if there is none. Blocks.

    Raises OSError.
    """
    if not storage.exists(name):
        return None
    path = storage.local(name)
    return LocalFile(path, path.stat())


class ResultResponse(FileResponse):
    """Sends a result file and counts its bytes. Holds `retained`, so that it is not deleted
    meanwhile."""

    def __init__(
        self, retained: AbstractContextManager[None], file: LocalFile, media_type: str
    ) -> None:
        super().__init__(
            file.path,
            media_type=media_type,
            headers={"X-Content-Type-Options": "nosniff"},
            stat_result=file.stat,
        )
        self._retained = retained

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            await send(message)
            metrics.count_bytes("sent", len(message.get("body", b"")))

        with self._retained:
            await super().__call__(scope, receive, counted)

    @contextlib.asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        # Starlette's reads in the framework's threads.
        file = await thread_pool.run(thread_pool.DISK, Path(self.path).open, "rb")
        try:
            yield _ThreadedFile(file)
        finally:
            with anyio.CancelScope(shield=True):
                await thread_pool.run(thread_pool.DISK, file.close)


class _ThreadedFile(anyio.AsyncFile[bytes]):
    """A file read in the service's threads."""

    async def read(self, size: int = -1) -> bytes:
        return await thread_pool.run(thread_pool.DISK, self.wrapped.read, size)

    async def seek(self, offset: int, whence: int | None = os.SEEK_SET) -> int:
        return self.wrapped.seek(offset, whence or os.SEEK_SET)

"""TLS before a server of the tests, as a Space's proxy has it."""

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import trustme


@contextmanager
def over_https(url: str) -> Iterator[str]:
    """An https address at `localhost`, under a certificate of nobody's, for the server at `url`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    inner = urlsplit(url)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            # One request a connection: only the first one's headers are looked at.
            head = re.sub(rb"(?im)^connection:.*\r\n", b"", head)
            first, rest = head.split(b"\r\n", 1)
            there, back = await asyncio.open_connection(inner.hostname, inner.port)
            back.write(first + b"\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n" + rest)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    starting = asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result()
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}"

    async def end() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()

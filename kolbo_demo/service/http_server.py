"""uvicorn for the page and the service, with limits on connections and strict HTTP/1.1 framing.

uvicorn and h11 bound the size of a request head and the idle time between two requests. This module
adds time limits for heads, bodies and unread responses, limits on the number of connections, and
refuses requests whose framing a proxy in front may read in another way (request smuggling).
"""

import asyncio
import contextlib
import heapq
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from kolbo_demo.service.gate import visitor_of
from kolbo_demo.service.public_url import PROXIED

_HEAD_BYTES = 16 * 1024
_HEAD_LINES = 128
"""Each header field takes time, here and in the application, however short it is."""
_KEEP_ALIVE_SECONDS = 5
_GRACE_SECONDS = 1.0
"""For running requests at shutdown, before all connections are aborted."""
_CANCEL_SECONDS = 2
"""After which handlers that outlive their connection are cancelled at shutdown."""
_PROGRESS_BYTES = 4096
"""Of a body or a response within `idle_seconds`; else a byte a minute would hold a connection."""
_SMALL_CHUNKS = 1000
"""Chunks that a body may have; further ones must be 64 bytes on average. Parsing costs as much for
each as for a large one."""
_ACCEPTED_AT_ONCE = 16
"""By one pass of the event loop. The limits hold between two passes, and the heads of a burst of
honest requests are read before they count as missing."""
_BACKLOG = 2048
_SWEEP_INTERVAL_SECONDS = 0.5
"""uvicorn's own ticks are 0.1 s apart."""
_MAX_DESCRIPTORS = 4096


def _default_max_connections() -> int:
    """Half of this process's descriptors, at most 1000. Raises their soft limit first."""
    if sys.platform == "win32":
        return 1000
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    target = _MAX_DESCRIPTORS if hard == unlimited else min(hard, _MAX_DESCRIPTORS)
    if soft != unlimited and soft < target:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    return 1000 if soft == unlimited else min(1000, soft // 2)


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one server. An address is an IPv4 address or an IPv6 /64."""

    total: int = field(default_factory=_default_max_connections)
    per_address: int = 256
    """Trusted proxies are exempt: every visitor comes from these."""
    pending: int = 128
    """Connections of one address, proxy or not, whose request head is incomplete."""
    head_seconds: float = 10.0
    idle_seconds: float = 60.0
    """Without progress of a request body, or of a response that the client does not read."""


class _StrictConnection(h11.Connection):
    """h11 without the leniency that request smuggling relies on."""

    received = 0
    """Bytes of the body of the request at hand."""
    _chunks = 0

    def next_event(self) -> Any:
        state = self.their_state
        if state is h11.IDLE and (head := self.trailing_data[0]):
            if problem := _head_problem(head):
                raise h11.RemoteProtocolError(problem)
            self.received = self._chunks = 0
        event: Any = super().next_event()
        if state is h11.SEND_BODY:
            self._check_body(event)
        return event

    def _check_body(self, event: Any) -> None:
        kind = type(event)  # isinstance takes longer, as events are abstract base classes
        if kind is h11.Data:
            self.received += len(event.data)
            self._chunks += event.chunk_end
            if self._chunks > max(_SMALL_CHUNKS, self.received // 64):
                raise h11.RemoteProtocolError("small chunks")
        elif kind is h11.EndOfMessage and event.headers:
            raise h11.RemoteProtocolError("trailer fields")


def _head_problem(received: bytes) -> str | None:
    """The reason to refuse a head that h11 accepts, if any. More may follow the head."""
    end = received.find(b"\r\n\r\n")
    if end > _HEAD_BYTES:  # h11 looks at the length of incomplete heads only
        return "long head"
    head = received[: end + 4] if end >= 0 else received
    lines = head.count(b"\r\n")
    if lines > _HEAD_LINES:
        return "many fields"
    if head.count(b"\n") != lines or b"\n " in head or b"\n\t" in head:
        return "a line that ends without CR, or is folded"
    if end < 0:
        return None
    head = head.lower()
    line = head[: head.find(b"\r\n")]
    if not line.endswith((b" http/1.1", b" http/1.0")):
        return "unknown version"
    # CONNECT and absolute-form targets are for proxies, and may name another host than Host does.
    if line.startswith(b"connect ") or not (b" /" in line or line.startswith(b"options * ")):
        return "target for a proxy"
    if b"\r\ntransfer-encoding:" in head and (
        b"\r\ncontent-length:" in head or line.endswith(b"1.0")
    ):
        return "ambiguous body length"
    return None


class _Phase(Enum):
    HEAD = auto()
    """A request head is incomplete or, on a new connection, has not begun."""
    KEEP_ALIVE = auto()
    """Idle between two requests."""
    REQUEST = auto()


class _Connections(ServerState):
    """The open connections of a server."""

    connections: "set[_Protocol]"  # type: ignore[assignment] - all are of the class below

    def __init__(self, limits: ConnectionLimits, proxies: str) -> None:
        super().__init__()
        self._limits = limits
        self.proxies = ProxyHeadersMiddleware(_no_app, proxies).trusted_hosts

    def admit(self) -> None:
        """Make room for a connection that was accepted."""
        total = self._limits.total
        if len(self.connections) > total:
            self._trim(total - total // 16)  # a trim visits every connection: make room for several

    def sweep(self, now: float) -> None:
        """Drop connections that are overdue or exceed a limit."""
        for connection in list(self.connections):
            if connection.is_overdue(now, self._limits):
                connection.drop()
        self._trim(self._limits.total)

    def _trim(self, total: int) -> None:
        groups: defaultdict[str, list[_Protocol]] = defaultdict(list)
        for connection in self.connections:
            groups[connection.address].append(connection)
        for group in groups.values():
            group.sort(key=_Protocol.drop_order, reverse=True)
            pending = [each for each in group if each.phase is _Phase.HEAD]
            for connection in pending[self._limits.pending :]:
                group.remove(connection)
                connection.drop()
            while len(group) > self._limits.per_address and not group[-1].proxied:
                group.pop().drop()
        # The address with the most connections loses one, so that others can still connect.
        heap = [(-len(group), address) for address, group in groups.items()]
        heapq.heapify(heap)
        while heap and len(self.connections) > total:
            address = heapq.heappop(heap)[1]
            group = groups[address]
            if group and group[-1].expendable:
                group.pop().drop()
                heapq.heappush(heap, (-len(group), address))


async def _no_app(*_: object) -> None: ...


class _Protocol(H11Protocol):
    """One connection. Its deadlines are checked periodically, at no cost to requests."""

    server_state: _Connections
    conn: _StrictConnection

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: _Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _StrictConnection(h11.SERVER, _HEAD_BYTES)
        self.address = ""
        self.proxied = False
        self._last_state: tuple[_Phase, object] = _Phase.HEAD, None
        now = self.loop.time()
        self._since = self._received_since = self._unread_since = now
        """Start of the phase; last progress of the body, and of writing the response."""
        self._received = self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        self.address = visitor_of(host)
        self.proxied = host in self.server_state.proxies
        self.server_state.admit()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # The application must not add its own response.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        with contextlib.suppress(h11.LocalProtocolError):  # a response that broke off
            super().shutdown()

    @property
    def phase(self) -> _Phase:
        if self.conn.their_state is not h11.IDLE:
            return _Phase.REQUEST
        return (
            _Phase.HEAD if self.cycle is None or self.conn.trailing_data[0] else _Phase.KEEP_ALIVE
        )

    @property
    def expendable(self) -> bool:
        """Whether it may be dropped for a new connection."""
        return not self.proxied or self.drop_order()[0] < 2

    def drop_order(self) -> tuple[int, float]:
        """Lowest for the connection to drop first: the longest wait for a request, then the longest
        wait for a body, then the latest request."""
        if self.phase is not _Phase.REQUEST:
            return 0, self._since
        return (1, self._received_since) if self._awaits_body() else (2, -self._since)

    def is_overdue(self, now: float, limits: ConnectionLimits) -> bool:
        state = self.phase, self.cycle
        if state != self._last_state:
            self._last_state, self._since = state, now
            self._received, self._received_since = 0, now
        unread = self.transport.get_write_buffer_size()
        if not unread or unread <= self._unread - _PROGRESS_BYTES:
            self._unread, self._unread_since = unread, now
        self._unread = max(self._unread, unread)
        if self._awaits_body():
            # A body that goes on after its response is discarded, for a limited time in all.
            progress = self.conn.received - self._received >= _PROGRESS_BYTES
            if progress and not self.cycle.response_complete:
                self._received, self._received_since = self.conn.received, now
        else:
            self._received_since = now
        late = now - limits.idle_seconds
        if self.phase is _Phase.HEAD and self._since < now - limits.head_seconds:
            return True
        return self._unread_since < late or self._received_since < late

    def _awaits_body(self) -> bool:
        """Whether the application waits for the client's body."""
        return self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused

    def drop(self) -> None:
        """Close at once, without sending what is buffered."""
        self.connections.discard(self)
        if self.transport.get_write_buffer_size():
            # Otherwise the kernel would hold its buffer for minutes.
            reset = struct.pack("ii", 1, 0)
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.transport.abort()


class _TrustedProxyMiddleware(ProxyHeadersMiddleware):
    """Marks requests of trusted proxies for the gate, as uvicorn replaces their address."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        scope[PROXIED] = client is not None and client[0] in self.trusted_hosts
        await super().__call__(scope, receive, send)


class Server(uvicorn.Server):
    """uvicorn with connection limits, which stops although open pages hold connections."""

    server_state: _Connections

    def __init__(
        self,
        app: ASGIApp,
        proxies: str,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """`proxies` are trusted with `X-Forwarded-For`; `run` takes sockets instead of a port."""
        limits = limits or ConnectionLimits()
        config = uvicorn.Config(
            _TrustedProxyMiddleware(app, proxies),  # pyright: ignore[reportArgumentType] - typed narrower there
            host=host,
            port=port,
            http=_Protocol,
            ws="none",  # no route is a web socket, and uvicorn does not count their connections
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            # For handlers that outlive their connections; connections have a limit of their own.
            limit_concurrency=4 * limits.total,
            backlog=_ACCEPTED_AT_ONCE,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_CANCEL_SECONDS,
        )
        super().__init__(config)
        self.server_state = _Connections(limits, proxies)
        self._wake: Callable[[], object] | None = None

    def stop(self) -> None:
        """Shut down. For any thread."""
        self.should_exit = True
        if self._wake:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._wake()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                # asyncio takes one number for the kernel's queue and for what it accepts at once.
                with listener.dup() as duplicate:
                    duplicate.listen(_BACKLOG)

    async def main_loop(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, stopped.set)
        while not await self.on_tick(0):
            self.server_state.sweep(loop.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), _SWEEP_INTERVAL_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._drop_all)
        await super().shutdown(sockets)

    def _drop_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.drop()

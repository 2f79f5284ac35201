"""The gate in front of page and service: every request passes it before a framework sees it.

It refuses requests for another host name than the server's own and requests of other websites,
sends no permission for cross-origin reads, bounds bodies that are not uploads, bounds what one
visitor has under way, and drops headers by which a caller would choose the server's address.
"""

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import json
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.address import is_loopback
from kolbo_demo.contract import ErrorReply
from kolbo_demo.json_bounds import check_json
from kolbo_demo.settings import Settings, space_host

MAX_BODY_BYTES = 1024 * 1024
"""Of a request that is no upload."""
MOST_AT_ONCE = 96
"""Requests of one visitor under way, streams of events included; a page holds two of those."""
_BODY_SECONDS = 30.0
"""For the whole of such a body to arrive."""
_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_SECONDS = 10.0

FORWARDED = frozenset(
    {
        "cdn-loop", "cf-connecting-ip", "fly-client-ip", "forwarded", "true-client-ip", "via",
        "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for", "x-real-ip",
    }
)  # fmt: skip
"""With every `X-Forwarded-*`: headers by which a proxy or a tunnel shows itself."""
_ADDRESSING = frozenset(
    {
        "forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
        "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-gradio-server",
        "x-host", "x-original-host", "x-original-url", "x-rewrite-url",
    }
)  # fmt: skip
"""Headers from which Gradio and others build addresses of this server. The scheme that a trusted
proxy tells is in the ASGI scope already; the host is taken over where the site has that name."""
_CALLER = "x-kolbo-caller"
_SCOPE = "kolbo.caller"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]{0,252}))(?::([0-9]{1,5}))?")
_PORTS = {"http": 80, "https": 443}
_UNKNOWN = "unknown"
"""All callers without an address together: a header of a careless proxy may name anything."""
OPEN_PATHS = ("/api/v1/results/",)
"""Results that any website may embed: their names are their only key."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request."""

    visitor: str
    """An address, or the /64 network of one: requests of one visitor share limits."""
    owner: bool = False
    """Whether it is this machine's user at a page that only this machine reaches."""


def caller_of(request: object) -> Caller:
    """The caller of a request of Starlette's or Gradio's that has passed the gate."""
    inner = getattr(request, "request", None) or request
    assert isinstance(inner, HTTPConnection)
    found = inner.scope.get(_SCOPE)
    return found or Caller(visitor_of(inner.client.host if inner.client else None))


def visitor_of(host: str | None) -> str:
    """The visitor behind an address: the address itself, or the /64 network that a household gets
    of IPv6."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


@dataclass(frozen=True)
class Site:
    """The host names under which a server answers."""

    loopback: bool = True
    """Whether it listens on loopback only. Then a name must be that of loopback, with the port."""
    names: frozenset[str] = frozenset()
    """More names, each with any port or, as `name:port`, with that one."""
    space: str | None = None
    """The name of a Hugging Face Space, whose frame on huggingface.co may show the page."""
    any_name: bool = False
    """For a service that takes a key with every request: a page of another name has no key."""

    @classmethod
    def of(cls, settings: Settings, host: str, *, any_name: bool = False) -> "Site":
        """The site of a server that listens on `host`."""
        space = space_host()
        loopback = is_loopback(host) and space is None
        own = frozenset() if loopback or _address(host) else frozenset({host.lower()})
        return cls(loopback, settings.allowed_hosts | own, space, any_name)

    def serves(self, host: str, server: tuple[str, int | None] | None) -> bool:
        """Whether a Host header names this server; `server` is the address that was reached.

        Without `names` a server that others reach answers to addresses and to names that public
        DNS cannot give to it, so that no website can rebind its own name to this server.
        """
        found = _split(host)
        if found is None:
            return False
        name, port = found
        if name in self.names or f"{name}:{port or 80}" in self.names or name == self.space:
            return True
        address = _address(name)
        if self.loopback:
            here = name == "localhost" or (address is not None and address.is_loopback)
            own = address is None or not server or str(address) in {server[0], "127.0.0.1", "::1"}
            return here and own and (not server or (port or 80) == server[1])
        if self.any_name or address is not None:
            return True
        return "." not in name or name.endswith(".local")

    @property
    def frame_ancestors(self) -> str:
        """The pages that may frame this one, as a Content-Security-Policy has them."""
        more = [] if self.space is None else ["https://huggingface.co"]
        for name in sorted(self.names):
            where = name if ":" in name.rpartition("]")[2] else f"{name}:*"
            more += [f"http://{where}", f"https://{where}"]
        return " ".join(["'self'", *more])


class Gate:
    """ASGI middleware, the outermost one."""

    def __init__(
        self,
        app: ASGIApp,
        site: Site,
        *,
        private: bool = False,
        token: str | None = None,
        uploads: Iterable[str] = (),
    ) -> None:
        """`private`: requests of this machine's own user count as the owner's, with `token` only
        those that carry it. `uploads` are the paths that take files; the routes under `/api/` bound
        bodies by themselves."""
        self._app = app
        self._site = site
        self._private = private
        self._token = token
        self._uploads = frozenset(uploads)
        self._secret = secrets.token_bytes(32)
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is None and (token := self._token_in(scope)) is not None:
            refused = self._with_cookie(scope, headers, token)
        if refused is not None:
            await _drain(receive)
            await refused(scope, receive, send)
            return
        caller = self._caller(scope, headers)
        scope = self._own(scope, headers, caller)
        if scope["path"].startswith("/api/"):  # which the page asks for all its visitors
            await self._pass(scope, receive, send)
            return
        if self._under_way[caller.visitor] >= MOST_AT_ONCE:
            busy = refusal(
                scope, 429, "RATE_LIMITED", "Too many requests at once; wait for some to end."
            )
            busy.headers["Retry-After"] = "5"
            await busy(scope, receive, send)
            return
        self._under_way[caller.visitor] += 1
        try:
            await self._pass(scope, receive, send)
        finally:
            self._under_way[caller.visitor] -= 1
            self._under_way += Counter()  # drops what is at 0

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._bounded(scope):
            try:
                body = await _body(receive)
            except _BodyError as error:
                if error.status != 400:  # else all of it was read
                    await _drain(receive)
                answer = refusal(scope, error.status, error.code, str(error))
                await answer(scope, receive, send)
                return
            receive = replay(body, receive)

        async def same_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name in [name for name in sent if name.startswith("access-control-")]:
                    del sent[name]
                shared = scope["path"].startswith(OPEN_PATHS)
                sent["Cross-Origin-Resource-Policy"] = "cross-origin" if shared else "same-origin"
            await send(message)

        await self._app(scope, receive, same_origin)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._site.serves(hosts[0], scope.get("server")):
            return refusal(
                scope,
                403,
                "FORBIDDEN_HOST",
                "This server is not served under that host name; open it under its own address, or "
                "have its owner add the name to KOLBO_ALLOWED_HOSTS.",
            )
        origins = headers.getlist("origin")
        if all(self._is_own(origin, self._host(headers)) for origin in origins) and (
            origins or not _is_foreign(scope, headers)
        ):
            return None
        return refusal(
            scope, 403, "FORBIDDEN_ORIGIN", "Other websites may not use this server's addresses."
        )

    def _host(self, headers: Headers) -> str:
        """The host name under which the visitor's browser knows the server."""
        told = headers.get("x-forwarded-host", "").partition(",")[0].strip().lower()
        found = _split(told)
        if found and (found[0] in self._site.names or found[0] == self._site.space):
            return told
        return headers["host"].lower()

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            url = urlsplit(origin)
            port = url.port
        except ValueError:
            return False
        own = _split(host)
        if url.scheme not in _PORTS or own is None or url.path or url.query:
            return False
        if own[0] == self._site.space and url.scheme != "https":
            return False
        name = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        usual = _PORTS[url.scheme]
        # A proxy may name no port, or its own: the scheme of the origin says which is meant.
        return name == own[0] and (port or usual) == (own[1] or usual)

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        passed = self._opened(headers.get(_CALLER, ""))
        if passed is not None:
            return passed
        client = scope.get("client")
        peer = client[0] if client else ""
        host = _split(headers["host"])
        owner = (
            self._private
            and (client is None or is_loopback(peer))
            and host is not None
            and is_loopback(host[0].strip("[]"))
            and not any(name in FORWARDED or name.startswith("x-forwarded") for name in headers)
            and self._knows_token(scope, headers)
        )
        return Caller(visitor_of(peer) if _is_address(peer) else _UNKNOWN, owner)

    def _own(self, scope: Scope, headers: Headers, caller: Caller) -> Scope:
        """The scope without headers that would choose addresses, the caller in it.

        Gradio's MCP server asks the page over loopback with the headers of its caller. The caller
        goes along in a header under a secret of this process, so that his limits stay his.
        """
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if (text := name.decode("latin-1").lower()) not in _ADDRESSING
            and text not in {_CALLER, "host"}
        ]
        kept.append((b"host", self._host(headers).encode("latin-1")))
        kept.append((_CALLER.encode(), self._sealed(caller)))
        return {**scope, "headers": kept, _SCOPE: caller, "client": (caller.visitor, 0)}

    def _sealed(self, caller: Caller) -> bytes:
        text = base64.urlsafe_b64encode(json.dumps([caller.visitor, caller.owner]).encode())
        return text + b"." + hmac.digest(self._secret, text, "sha256").hex().encode()

    def _opened(self, sealed: str) -> Caller | None:
        text, _, seal = sealed.partition(".")
        expected = hmac.digest(self._secret, text.encode("latin-1", "replace"), "sha256").hex()
        if not hmac.compare_digest(seal.encode(), expected.encode()):
            return None
        visitor, owner = json.loads(base64.urlsafe_b64decode(text))
        return Caller(visitor, owner)

    def _token_in(self, scope: Scope) -> str | None:
        """The owner's token in the address, if there is one."""
        if self._token is None or scope["method"] not in {"GET", "HEAD"}:
            return None
        return dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")

    def _with_cookie(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        """The same address without the token, which goes into a cookie where it is right."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        left = urlencode([(name, value) for name, value in query if name != "token"])
        path = "./" + scope["path"].rpartition("/")[2]
        answer = RedirectResponse(path + (f"?{left}" if left else ""), 303)
        answer.headers["Cache-Control"] = "no-store"
        if self._token and hmac.compare_digest(token.encode(), self._token.encode()):
            cookie = _cookie_name(headers)
            answer.set_cookie(cookie, self._token, httponly=True, samesite="strict")
        return answer

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        if self._token is None:
            return True
        told = HTTPConnection(scope).cookies.get(_cookie_name(headers), "")
        return hmac.compare_digest(told.encode(), self._token.encode())

    def _bounded(self, scope: Scope) -> bool:
        if scope["method"] in {"GET", "HEAD", "OPTIONS"} or scope["path"].startswith("/api/"):
            return False
        return scope["path"].rstrip("/") not in self._uploads


class _BodyError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def _cookie_name(headers: Headers) -> str:
    """Cookies of one host are shared by all its ports."""
    found = _split(headers["host"].lower())
    return f"kolbo-owner-{(found and found[1]) or 80}"


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises _BodyError where it is too long, too slow, or JSON out of bounds."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in _chunks(receive):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _BodyError(
                        413,
                        "BODY_TOO_LARGE",
                        f"The request is over {MAX_BODY_BYTES >> 20} MB; upload files instead of "
                        "sending them along.",
                    )
    except TimeoutError:
        raise _BodyError(408, "REQUEST_TIMEOUT", "The request took too long to arrive.") from None
    try:
        check_json(bytes(body))
    except ValueError as error:
        raise _BodyError(400, "INVALID_JSON", str(error)) from None
    return bytes(body)


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _drain(receive: Receive) -> None:
    """Read on for a while: an answer to a caller who is still sending is lost to most clients."""
    left = _DRAIN_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in _chunks(receive):
                left -= len(chunk)
                if left < 0:
                    return


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


def refusal(scope: Scope, status: int, code: str, sentence: str) -> Response:
    """One sentence, under `/api/` in the shape of Kolbo's errors."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    if scope["path"].startswith("/api/"):
        body = ErrorReply.of(code, sentence).model_dump()
        return JSONResponse(body, status_code=status, headers=headers)
    return PlainTextResponse(sentence, status_code=status, headers=headers)


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Whether another website's page loads this, as current browsers tell; its links may lead
    here."""
    if headers.get("sec-fetch-site") not in {"cross-site", "same-site"}:
        return False
    if scope["method"] in {"GET", "HEAD"}:
        if headers.get("sec-fetch-mode") == "navigate":
            return False
        return not scope["path"].startswith(OPEN_PATHS)
    return True


def _split(host: str) -> tuple[str, int | None] | None:
    """Name, in lower case, and port of a Host header; None for what is no such thing."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return None
    return found[1], int(found[2]) if found[2] else None


def _is_address(host: str) -> bool:
    return _address(host.partition("%")[0]) is not None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None

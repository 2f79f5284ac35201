"""The gate in front of page and service: every request passes it before a framework sees it.

It refuses requests for another host name than the server's own and requests of other websites,
sends no permission for cross-origin reads, bounds bodies that are not uploads, bounds what one
visitor has under way, and drops headers by which a caller would choose the server's address.
"""

import base64
import functools
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.contract import ErrorReply
from kolbo_demo.ip_policy import is_loopback
from kolbo_demo.service.hostnames import Site, is_address, split_host
from kolbo_demo.service.public_url import PUBLIC, origin_of, route_of, with_prefix
from kolbo_demo.service.rate_limit import TooManyError, UnderWay
from kolbo_demo.service.request_body import BodyError, drain, read_body, replay

TOO_MANY = "Too many requests at once; wait for some to end."
MOST_AT_ONCE = 96
"""Requests of one visitor under way, streams of events included; a page holds two of those."""

FORWARDED = frozenset(
    {
        "cdn-loop", "cf-connecting-ip", "fly-client-ip", "forwarded", "true-client-ip", "via",
        "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for", "x-real-ip",
    }
)  # fmt: skip
"""With every `X-Forwarded-*`: headers by which a proxy or a tunnel shows itself."""
_ADDRESSING = frozenset(
    name.encode()
    for name in (
        "forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
        "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-gradio-server",
        "x-host", "x-original-host", "x-original-url", "x-rewrite-url",
    )
)  # fmt: skip
"""Headers from which Gradio and others build addresses of this server. The scheme that a trusted
proxy tells is in the ASGI scope already; the host is taken over where the site has that name."""
_CALLER = b"x-kolbo-caller"
_OURS = _ADDRESSING | {_CALLER, b"host"}
_OTHER_HOST = (
    "This page is not served under that host name; open its own address, or have its owner add the "
    "name to KOLBO_ALLOWED_HOSTS."
)
_OTHER_ORIGIN = "Other websites may not use this server's addresses."
_ASKS_ITSELF = "/gradio_api/mcp"
_SCOPE = "kolbo.caller"
_SEALED_SECONDS = 60.0
_PORTS = {"http": 80, "https": 443}
_OWNER = "owner"
_UNKNOWN = "unknown"
"""All callers without an address together: a header of a careless proxy may name anything."""
RESULTS = "/api/v1/results/"
"""Any website may embed them: their names are their only key."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request."""

    visitor: str
    """An address, or the /64 network of one: requests of one visitor share limits."""
    owner: bool = False
    """Whether it is this machine's user at a page that only this machine reaches."""
    inner: bool = False
    """Whether this server asks itself for that caller."""


@dataclass(frozen=True)
class _Passed:
    """What the gate found out about a request."""

    caller: Caller
    scheme: str
    host: str
    prefix: str


def caller_of(request: object) -> Caller:
    """The caller of a request of Starlette's or Gradio's that has passed the gate."""
    inner = getattr(request, "request", None) or request
    assert isinstance(inner, HTTPConnection)
    found = inner.scope.get(_SCOPE)
    return found or Caller(visitor_of(inner.client.host if inner.client else None))


@functools.lru_cache(4096)
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
        self._under_way = UnderWay(MOST_AT_ONCE, TOO_MANY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        scope = with_prefix(scope, headers, self._site)
        host = self._host(scope, headers)
        if host is None:
            refused = refusal(scope, 403, "FORBIDDEN_HOST", _OTHER_HOST)
            await _answer(refused, scope, receive, send)
            return
        if not self._is_ours(scope, headers, host):
            refused = refusal(scope, 403, "FORBIDDEN_ORIGIN", _OTHER_ORIGIN)
            await _answer(refused, scope, receive, send)
            return
        if (redirect := self._without_token(scope, headers)) is not None:
            await _answer(redirect, scope, receive, send)
            return
        passed = self._opened(headers.get("x-kolbo-caller", ""))
        if passed is None:
            scheme, host = origin_of(scope, headers, host, self._site)
            passed = _Passed(self._caller(scope, headers), scheme, host, scope["root_path"])
        scope = self._own(scope, passed)
        if route_of(scope).startswith("/api/"):  # which the page asks for all its visitors
            await self._app(scope, receive, _same_origin(scope, send))
            return
        try:
            place = self._under_way.one(passed.caller.visitor)
        except TooManyError as error:
            busy = refusal(scope, error.status, error.code, error.message)
            busy.headers.update(error.headers)
            await busy(scope, receive, send)
            return
        with place:
            await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._bounded(scope):
            try:
                body = await read_body(receive)
            except BodyError as error:
                answer = refusal(scope, error.status, error.code, str(error))
                if error.status == 400:  # all of it was read
                    await answer(scope, receive, send)
                else:
                    await _answer(answer, scope, receive, send)
                return
            receive = replay(body, receive)
        await self._app(scope, receive, _same_origin(scope, send))

    def _host(self, scope: Scope, headers: Headers) -> str | None:
        """The host name under which the visitor's browser knows the server; None where it is not
        served under the one that was asked for."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._site.serves(hosts[0], scope.get("server")):
            return None
        told = headers.get("x-forwarded-host", "").partition(",")[0].strip().lower()
        found = split_host(told)
        named = found and (found[0] in self._site.names or found[0] == self._site.space)
        if named or self._site.is_public(told):
            return told
        return hosts[0].lower()

    def _is_ours(self, scope: Scope, headers: Headers, host: str) -> bool:
        """Whether no other website sends the request."""
        origins = headers.getlist("origin")
        if origins:
            return all(self._is_own(origin, host) for origin in origins)
        return not _is_foreign(scope, headers)

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            url = urlsplit(origin)
            port = url.port
        except ValueError:
            return False
        own = split_host(host)
        name = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
        whole = f"{url.scheme}://{name}" + ("" if port is None else f":{port}")
        if url.scheme not in _PORTS or own is None or origin != whole:
            return False
        if origin == self._site.origin:
            return True
        if name == self._site.space:
            return url.scheme == "https" and port is None
        usual = _PORTS[url.scheme]
        if {name, f"{name}:{port or usual}"} & self._site.names:  # whatever Host a proxy gives
            return True
        # A proxy may name no port, or its own: the scheme of the origin says which is meant.
        return name == own[0] and (port or usual) == (own[1] or usual)

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        client = scope.get("client")
        peer = client[0] if client else ""
        if self._private and self._is_owner(scope, headers, peer):
            # With limits that no other user of the machine uses up.
            return Caller(_OWNER, owner=True)
        return Caller(visitor_of(peer) if is_address(peer) else _UNKNOWN)

    def _is_owner(self, scope: Scope, headers: Headers, peer: str) -> bool:
        host = split_host(headers["host"])
        return (
            (not peer or is_loopback(peer))
            and host is not None
            and is_loopback(host[0].strip("[]"))
            and not any(name in FORWARDED or name.startswith("x-forwarded") for name in headers)
            and self._knows_token(scope, headers)
        )

    def _own(self, scope: Scope, passed: "_Passed") -> Scope:
        """The scope without headers that would choose addresses, the caller in it.

        Gradio's MCP server asks the page over loopback with the headers of its caller. The caller
        goes along in a header under a secret of this process, so that his limits stay his and links
        lead to where he reaches the page.
        """
        kept = [each for each in scope["headers"] if each[0] not in _OURS]
        kept.append((b"host", passed.host.encode("latin-1")))
        if route_of(scope).startswith(_ASKS_ITSELF):
            kept.append((_CALLER, self._sealed(passed)))
        return {
            **scope,
            "headers": kept,
            "scheme": passed.scheme,
            "root_path": passed.prefix,
            "path": passed.prefix + route_of(scope),
            "client": (passed.caller.visitor, 0),
            _SCOPE: passed.caller,
            PUBLIC: self._site.public,
        }

    def _sealed(self, passed: "_Passed") -> bytes:
        caller, place = passed.caller, (passed.scheme, passed.host, passed.prefix)
        told = [caller.visitor, caller.owner, time.monotonic(), *place]
        text = base64.urlsafe_b64encode(json.dumps(told).encode())
        return text + b"." + hmac.digest(self._secret, text, "sha256").hex().encode()

    def _opened(self, sealed: str) -> "_Passed | None":
        if not sealed:
            return None
        text, _, seal = sealed.partition(".")
        expected = hmac.digest(self._secret, text.encode("latin-1", "replace"), "sha256").hex()
        if not hmac.compare_digest(seal.encode(), expected.encode()):
            return None
        visitor, owner, made, *place = json.loads(base64.urlsafe_b64decode(text))
        fresh = time.monotonic() - made < _SEALED_SECONDS
        return _Passed(Caller(visitor, owner, inner=True), *place) if fresh else None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """A redirect to the same address without the owner's token, which goes into a cookie if it
        is right; None for an address without one."""
        if self._token is None or scope["method"] not in {"GET", "HEAD"}:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = dict(query).get("token")
        if not token:
            return None
        left = urlencode([(name, value) for name, value in query if name != "token"])
        # Relative, where the prefix of a proxy may be unknown.
        path = scope["path"] if scope["root_path"] else "./" + scope["path"].rpartition("/")[2]
        answer = RedirectResponse(path + (f"?{left}" if left else ""), 303)
        answer.headers["Cache-Control"] = "no-store"
        if hmac.compare_digest(token.encode(), self._token.encode()):
            answer.set_cookie(
                _cookie_name(headers),
                self._token,
                path=scope["root_path"] or "/",
                secure=origin_of(scope, headers, headers["host"], self._site)[0] == "https",
                httponly=True,
                samesite="strict",
            )
        return answer

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        if self._token is None:
            return True
        told = HTTPConnection(scope).cookies.get(_cookie_name(headers), "")
        return hmac.compare_digest(told.encode(), self._token.encode())

    def _bounded(self, scope: Scope) -> bool:
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return False
        return route_of(scope).rstrip("/") not in self._uploads


async def _answer(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Instead of passing a request on, whose body is still to come."""
    await drain(receive)
    await answer(scope, receive, send)


def _same_origin(scope: Scope, send: Send) -> Send:
    """A `send` that lets no other website read an answer."""
    shared = route_of(scope).startswith(RESULTS)
    policy = b"cross-origin" if shared else b"same-origin"

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *(each for each in message.get("headers", ()) if not _is_cors(each[0])),
                (b"cross-origin-resource-policy", policy),
            ]
        await send(message)

    return marked


def _is_cors(name: bytes) -> bool:
    return name.lower().startswith(b"access-control-")


def _cookie_name(headers: Headers) -> str:
    """Cookies of one host are shared by all its ports."""
    found = split_host(headers["host"].lower())
    return f"kolbo-owner-{(found and found[1]) or 80}"


def refusal(scope: Scope, status: int, code: str, sentence: str) -> Response:
    """One sentence, under `/api/` in the shape of Kolbo's errors."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    if route_of(scope).startswith("/api/"):
        body = ErrorReply.of(code, sentence).model_dump()
        return JSONResponse(body, status_code=status, headers=headers)
    return PlainTextResponse(sentence, status_code=status, headers=headers)


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Whether another website's page loads this, as current browsers tell; its links may lead
    here."""
    if headers.get("sec-fetch-site", "").lower() not in {"cross-site", "same-site"}:
        return False
    if scope["method"] in {"GET", "HEAD"}:
        if headers.get("sec-fetch-mode") == "navigate":
            return False
        return not route_of(scope).startswith(RESULTS)
    return True

"""ASGI middleware in front of page and service.

It refuses requests for foreign host names and from other websites, removes CORS permissions, limits
bodies that are no uploads and each visitor's concurrent requests, and drops headers by which a
client would choose the server's URL.
"""

import base64
import functools
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.contract import ErrorReply
from kolbo_demo.ip_policy import is_loopback
from kolbo_demo.service.hostnames import Site, is_address, split_host
from kolbo_demo.service.public_url import PUBLIC, origin_of, route_of, with_prefix
from kolbo_demo.service.rate_limit import ConcurrencyLimit, TooManyRequestsError
from kolbo_demo.service.request_body import BodyError, drain, read_body, replay

TOO_MANY_MESSAGE = "Too many requests at once; wait for some to end."
MAX_CONCURRENT_REQUESTS = 96
"""Of one visitor, event streams included; a page holds two of those."""

PROXY_HEADERS = frozenset(
    {
        "cdn-loop", "cf-connecting-ip", "fly-client-ip", "forwarded", "true-client-ip", "via",
        "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for", "x-real-ip",
    }
)  # fmt: skip
"""With every `X-Forwarded-*`: headers that proxies and tunnels add."""
_URL_HEADERS = frozenset(
    name.encode()
    for name in (
        "forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
        "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-gradio-server",
        "x-host", "x-original-host", "x-original-url", "x-rewrite-url",
    )
)  # fmt: skip
"""Headers from which Gradio and others build URLs of this server. The scheme of a trusted proxy is
in the ASGI scope already; its host is used if the site has that name."""
_CALLER_HEADER = b"x-kolbo-caller"
_REPLACED_HEADERS = _URL_HEADERS | {_CALLER_HEADER, b"host"}
_OTHER_HOST = (
    "This page is not served under that host name; open its own address, or have its owner add the "
    "name to KOLBO_ALLOWED_HOSTS."
)
_OTHER_ORIGIN = "Other websites may not use this server's addresses."
_MCP_ROUTE = "/gradio_api/mcp"
_SCOPE = "kolbo.caller"
_SIGNATURE_SECONDS = 60.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OWNER = "owner"
_UNKNOWN = "unknown"
"""All clients without an IP address: a careless proxy may forward any text."""
RESULTS_PATH = "/api/v1/results/"
"""Any website may embed results, whose names are secret."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request."""

    visitor: str
    """IP address or IPv6 /64 network, which share limits."""
    owner: bool = False
    """Whether it is the user of this machine at a page on loopback."""
    inner: bool = False
    """Whether this server sends the request to itself for that caller."""
    account: str | None = None
    """Name on the Hugging Face Hub of a visitor of the page who has signed in."""

    @property
    def payer(self) -> str:
        """The name under which an allowance counts: the account, else the visitor."""
        return f"account:{self.account}" if self.account else self.visitor


@dataclass(frozen=True)
class _Origin:
    """Caller and public URL of an admitted request."""

    caller: Caller
    scheme: str
    host: str
    prefix: str


def caller_of(request: object) -> Caller:
    """The caller of an admitted request of Starlette or Gradio."""
    inner = getattr(request, "request", None) or request
    assert isinstance(inner, HTTPConnection)
    found = inner.scope.get(_SCOPE)
    found = found or Caller(visitor_of(inner.client.host if inner.client else None))
    account = _account(inner.scope.get("session"))
    return replace(found, account=account) if account else found


def _account(session: Mapping[str, Any] | None) -> str | None:
    """Name of the account in a session of `ui/sign_in.py`, whose signature Gradio has checked."""
    found = (session or {}).get("oauth_info")
    if not found or found.get("expires_at", 0) < time.time():
        return None
    return found["userinfo"]["preferred_username"]


@functools.lru_cache(4096)
def visitor_of(host: str | None) -> str:
    """The visitor of an IP address: the address itself, or its /64 network, which a household
    shares."""
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
    """The middleware, to be the outermost one."""

    def __init__(
        self,
        app: ASGIApp,
        site: Site,
        *,
        private: bool = False,
        token: str | None = None,
        uploads: Iterable[str] = (),
    ) -> None:
        """`private`: requests of this machine's user are the owner's, if they have the `token`.
        `uploads` are the routes that accept files; routes under `/api/` limit bodies themselves."""
        self._app = app
        self._site = site
        self._private = private
        self._token = token
        self._uploads = frozenset(uploads)
        self._secret = secrets.token_bytes(32)
        self._concurrency = ConcurrencyLimit(MAX_CONCURRENT_REQUESTS, TOO_MANY_MESSAGE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket routes
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        scope = with_prefix(scope, headers, self._site)
        host = self._host(scope, headers)
        if host is None:
            refused = refusal(scope, 403, "FORBIDDEN_HOST", _OTHER_HOST)
            await _drain_and_send(refused, scope, receive, send)
            return
        if not self._is_same_site(scope, headers, host):
            refused = refusal(scope, 403, "FORBIDDEN_ORIGIN", _OTHER_ORIGIN)
            await _drain_and_send(refused, scope, receive, send)
            return
        if (redirect := self._without_token(scope, headers)) is not None:
            await _drain_and_send(redirect, scope, receive, send)
            return
        origin = self._verified(headers.get("x-kolbo-caller", ""))
        if origin is None:
            scheme, host = origin_of(scope, headers, host, self._site)
            origin = _Origin(self._caller(scope, headers), scheme, host, scope["root_path"])
        scope = self._rewritten(scope, origin)
        if route_of(scope).startswith("/api/"):  # the page requests it for all its visitors
            await self._app(scope, receive, _same_origin(scope, send))
            return
        try:
            slot = self._concurrency.acquire(origin.caller.visitor)
        except TooManyRequestsError as error:
            busy = refusal(scope, error.status, error.code, error.message)
            busy.headers.update(error.headers)
            await busy(scope, receive, send)
            return
        with slot:
            await self._forward(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._has_limited_body(scope):
            try:
                body = await read_body(receive)
            except BodyError as error:
                response = refusal(scope, error.status, error.code, str(error))
                if error.status == 400:  # all of it was read
                    await response(scope, receive, send)
                else:
                    await _drain_and_send(response, scope, receive, send)
                return
            receive = replay(body, receive)
        await self._app(scope, receive, _same_origin(scope, send))

    def _host(self, scope: Scope, headers: Headers) -> str | None:
        """The server's host name in the visitor's browser; None if that is not served."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._site.serves(hosts[0], scope.get("server")):
            return None
        forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip().lower()
        found = split_host(forwarded)
        named = found and (found[0] in self._site.names or found[0] == self._site.space)
        if named or self._site.is_public(forwarded):
            return forwarded
        return hosts[0].lower()

    def _is_same_site(self, scope: Scope, headers: Headers, host: str) -> bool:
        """Whether the request is not from another website."""
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
        if url.scheme not in _DEFAULT_PORTS or own is None or origin != whole:
            return False
        if origin == self._site.origin:
            return True
        if name == self._site.space:
            return url.scheme == "https" and port is None
        default_port = _DEFAULT_PORTS[url.scheme]
        if {
            name,
            f"{name}:{port or default_port}",
        } & self._site.names:  # regardless of the Host of a proxy
            return True
        # A proxy may drop the port: then the scheme of the origin implies it.
        return name == own[0] and (port or default_port) == (own[1] or default_port)

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        client = scope.get("client")
        peer = client[0] if client else ""
        if self._private and self._is_owner(scope, headers, peer):
            # Other users of the machine have other limits.
            return Caller(_OWNER, owner=True)
        return Caller(visitor_of(peer) if is_address(peer) else _UNKNOWN)

    def _is_owner(self, scope: Scope, headers: Headers, peer: str) -> bool:
        host = split_host(headers["host"])
        return (
            (not peer or is_loopback(peer))
            and host is not None
            and is_loopback(host[0].strip("[]"))
            and not any(name in PROXY_HEADERS or name.startswith("x-forwarded") for name in headers)
            and self._knows_token(scope, headers)
        )

    def _rewritten(self, scope: Scope, origin: _Origin) -> Scope:
        """The scope with the caller and the public URL, without headers that would choose a URL.

        Gradio's MCP server calls the page over loopback with the headers of its caller. A header
        signed by this process passes the caller and the URL on.
        """
        new_headers = [each for each in scope["headers"] if each[0] not in _REPLACED_HEADERS]
        new_headers.append((b"host", origin.host.encode("latin-1")))
        if route_of(scope).startswith(_MCP_ROUTE):
            new_headers.append((_CALLER_HEADER, self._signed(origin)))
        return {
            **scope,
            "headers": new_headers,
            "scheme": origin.scheme,
            "root_path": origin.prefix,
            "path": origin.prefix + route_of(scope),
            "client": (origin.caller.visitor, 0),
            _SCOPE: origin.caller,
            PUBLIC: self._site.public,
        }

    def _signed(self, origin: _Origin) -> bytes:
        caller, url = origin.caller, (origin.scheme, origin.host, origin.prefix)
        fields = [caller.visitor, caller.owner, time.monotonic(), *url]
        text = base64.urlsafe_b64encode(json.dumps(fields).encode())
        return text + b"." + hmac.digest(self._secret, text, "sha256").hex().encode()

    def _verified(self, signed: str) -> _Origin | None:
        if not signed:
            return None
        text, _, signature = signed.partition(".")
        expected = hmac.digest(self._secret, text.encode("latin-1", "replace"), "sha256").hex()
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return None
        visitor, owner, created, *url = json.loads(base64.urlsafe_b64decode(text))
        fresh = time.monotonic() - created < _SIGNATURE_SECONDS
        return _Origin(Caller(visitor, owner, inner=True), *url) if fresh else None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """A redirect to the same URL without the owner's token, which is set as a cookie if right;
        None for a URL without a token."""
        if self._token is None or scope["method"] not in {"GET", "HEAD"}:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = dict(query).get("token")
        if not token:
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # Relative if the prefix of a proxy may be unknown.
        path = scope["path"] if scope["root_path"] else "./" + scope["path"].rpartition("/")[2]
        redirect = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        redirect.headers["Cache-Control"] = "no-store"
        if hmac.compare_digest(token.encode(), self._token.encode()):
            redirect.set_cookie(
                _cookie_name(headers),
                self._token,
                path=scope["root_path"] or "/",
                secure=origin_of(scope, headers, headers["host"], self._site)[0] == "https",
                httponly=True,
                samesite="strict",
            )
        return redirect

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        if self._token is None:
            return True
        sent = HTTPConnection(scope).cookies.get(_cookie_name(headers), "")
        return hmac.compare_digest(sent.encode(), self._token.encode())

    def _has_limited_body(self, scope: Scope) -> bool:
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return False
        return route_of(scope).rstrip("/") not in self._uploads


async def _drain_and_send(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request whose body is unread."""
    await drain(receive)
    await response(scope, receive, send)


def _same_origin(scope: Scope, send: Send) -> Send:
    """A `send` with headers by which no other website can read the response."""
    shared = route_of(scope).startswith(RESULTS_PATH)
    policy = b"cross-origin" if shared else b"same-origin"

    async def send_restricted(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *(each for each in message.get("headers", ()) if not _is_cors(each[0])),
                (b"cross-origin-resource-policy", policy),
            ]
        await send(message)

    return send_restricted


def _is_cors(name: bytes) -> bool:
    return name.lower().startswith(b"access-control-")


def _cookie_name(headers: Headers) -> str:
    """Has the port, as all ports of a host share their cookies."""
    found = split_host(headers["host"].lower())
    return f"kolbo-owner-{(found and found[1]) or 80}"


def refusal(scope: Scope, status: int, code: str, message: str) -> Response:
    """An error response: plain text, under `/api/` an `ErrorReply`."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    if route_of(scope).startswith("/api/"):
        body = ErrorReply.of(code, message).model_dump()
        return JSONResponse(body, status_code=status, headers=headers)
    return PlainTextResponse(message, status_code=status, headers=headers)


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Whether a page of another website loads this, by fetch metadata; links from there are
    allowed."""
    if headers.get("sec-fetch-site", "").lower() not in {"cross-site", "same-site"}:
        return False
    if scope["method"] in {"GET", "HEAD"}:
        if headers.get("sec-fetch-mode") == "navigate":
            return False
        return not route_of(scope).startswith(RESULTS_PATH)
    return True

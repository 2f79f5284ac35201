"""Public URL of this server: scheme, host and path prefix in front of any proxy.

The gate puts them into the ASGI scope: `scheme`, the Host header, and the prefix as `root_path`,
with which `path` begins. Hence URLs built by Starlette and Gradio are right.
"""

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from kolbo_demo.service.hostnames import Site
from kolbo_demo.settings import is_valid_prefix

PROXIED = "kolbo.proxied"
"""Scope key, set by the server: whether a trusted proxy sent the request."""
PUBLIC = "kolbo.public"
"""Scope key: the configured URL, or None."""


def public_base_url(request: HTTPConnection) -> str:
    """URL of this server for links, without a trailing slash: the configured one, else that of the
    request."""
    return request.scope.get(PUBLIC) or request_base_url(request)


def request_base_url(request: HTTPConnection) -> str:
    """URL of this server in the request, without a trailing slash."""
    return str(request.base_url).rstrip("/")


def route_of(scope: Scope) -> str:
    """The path of a request without the prefix."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def with_prefix(scope: Scope, headers: Headers, site: Site) -> Scope:
    """The scope with the prefix in `root_path` and `path`, whether the proxy strips it or not.

    The prefix is the configured one, else the `X-Forwarded-Prefix` of a trusted proxy.
    """
    prefix = site.prefix
    if not prefix and scope.get(PROXIED):
        forwarded = headers.get("x-forwarded-prefix", "").partition(",")[0].strip().rstrip("/")
        prefix = forwarded if is_valid_prefix(forwarded) else ""
    path = scope["path"]
    if path == prefix:
        path += "/"
    elif not path.startswith(f"{prefix}/"):
        path = prefix + path
    return {**scope, "root_path": prefix, "path": path}


def origin_of(scope: Scope, headers: Headers, host: str, site: Site) -> tuple[str, str]:
    """Scheme and host of this server in the visitor's browser.

    The Origin header has them, and the gate has checked it; proxies drop ports, change Host, or do
    not report TLS.
    """
    own = site.origin if site.is_public(host) else None
    scheme, _, name = (headers.get("origin") or own or "").partition("://")
    return (scheme, name) if name else (scope["scheme"], host)

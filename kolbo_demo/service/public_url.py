"""How visitors reach this server: scheme, host and path prefix, whatever a proxy makes of them.

Behind the gate the scope of a request tells it as ASGI has it: `scheme`, the Host header, and the
prefix as `root_path`, with which `path` begins. Hence Starlette's and Gradio's own addresses are
right.
"""

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from kolbo_demo.service.hostnames import Site
from kolbo_demo.settings import is_valid_prefix

PROXIED = "kolbo.proxied"
"""In a scope: whether a trusted proxy sends the request. The server says so."""
PUBLIC = "kolbo.public"
"""In a scope: the configured address, or None."""


def base_of(request: HTTPConnection) -> str:
    """This server's address for links, without a slash at its end: the configured one, else the one
    by which the caller reaches it."""
    return request.scope.get(PUBLIC) or own_base_of(request)


def own_base_of(request: HTTPConnection) -> str:
    """The address by which the caller reaches this server, without a slash at its end."""
    return str(request.base_url).rstrip("/")


def route_of(scope: Scope) -> str:
    """The path of a request without the prefix."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def with_prefix(scope: Scope, headers: Headers, site: Site) -> Scope:
    """The scope with the prefix in `root_path` and `path`, whether the proxy strips it or not.

    It is the configured one. Where none is, a trusted proxy may tell it.
    """
    prefix = site.prefix
    if not prefix and scope.get(PROXIED):
        told = headers.get("x-forwarded-prefix", "").partition(",")[0].strip().rstrip("/")
        prefix = told if is_valid_prefix(told) else ""
    path = scope["path"]
    if path == prefix:
        path += "/"
    elif not path.startswith(f"{prefix}/"):
        path = prefix + path
    return {**scope, "root_path": prefix, "path": path}


def origin_of(scope: Scope, headers: Headers, host: str, site: Site) -> tuple[str, str]:
    """Scheme and host of this server as the visitor's browser has them.

    The browser tells them in Origin, which has to be one of the site's: proxies drop ports, change
    Host, or do not say that they speak TLS.
    """
    own = site.origin if site.is_public(host) else None
    scheme, _, name = (headers.get("origin") or own or "").partition("://")
    return (scheme, name) if name else (scope["scheme"], host)

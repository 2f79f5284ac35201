"""Sessions without state: no key, no cookie, no `.netrc`.

A session lives for one request. Polls are seconds apart, so a connection that is kept open is often
one that the server is about to close, and a POST that fails on it looks like one that was accepted.
"""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from kolbo_demo.ip_policy import is_public_remote, parse_address

_BLOCK_BYTES = 1 << 16
"""Bytes per write of an upload, 4 times urllib3's: a third less time per byte. Not larger, because
each must be written within `Timeouts.connect`."""


@dataclass(frozen=True)
class Timeouts:
    """Timeouts in seconds."""

    connect: float = 20.0
    """To connect, and for each write of an upload."""
    read: float = 30.0
    """For a response, and for each read of a download."""
    start: float = 120.0
    """For the response to a start with links, which the server may inspect first."""
    upload: float = 600.0
    """For the response to a start with files, after they are sent."""
    download: float = 3600.0
    """For a whole result, all attempts together: none starts later."""


class PrivateAddressError(Exception):
    """A host that must be public has a private address."""


class NoAuth(AuthBase):
    """Keeps requests from sending credentials of `.netrc`."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class ApiKeyAuth(NoAuth):
    """Adds the key to one request, so that no session holds it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-API-Key"] = self._key.get_secret_value()
        return request


def stateless_session(url: str, public_only: bool = False) -> requests.Session:
    """A session for one request to `url`. Proxies of the environment are used, except for this
    machine.

    `public_only` refuses a connection to a private address, whatever the host's name resolves to
    at that moment. A proxy resolves names itself and must refuse them itself.
    """
    session = requests.Session()
    session.auth = NoAuth()
    session.headers["User-Agent"] = "kolbo-lipsync"
    session.trust_env = not _is_this_machine(urlsplit(url).hostname or "")
    adapter = _PublicAdapter() if public_only else _Adapter()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _is_this_machine(host: str) -> bool:
    address = parse_address(host)
    return address.is_loopback if address else host == "localhost"


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, blocksize=_BLOCK_BYTES, **options)


class _PublicAdapter(_Adapter):
    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PublicPool, "https": _PublicTlsPool}


class _PublicConnection(HTTPConnection):
    """Checks the peer's address before anything is sent."""

    def connect(self) -> None:
        super().connect()
        assert self.sock is not None, "connected"
        with suppress(OSError, ValueError):  # already closed: the request will fail
            if not is_public_remote(ipaddress.ip_address(self.sock.getpeername()[0])):
                self.close()
                raise PrivateAddressError


class _PublicTlsConnection(_PublicConnection, HTTPSConnection): ...


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection  # pyright: ignore[reportAssignmentType] - as urllib3 does itself


class _PublicTlsPool(HTTPSConnectionPool):
    ConnectionCls = _PublicTlsConnection  # pyright: ignore[reportAssignmentType]

"""Sessions of requests that carry nothing along: no key, no cookie, no `.netrc`.

A session lives for one request. Polls are seconds apart, so a connection kept open would mostly be
one that the server is about to close, and a POST on such a connection could not be told from one
that was accepted and then lost.
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

_BLOCK = 1 << 16
"""Bytes of one piece of an upload, 4 times urllib3's: a third less time a byte. All of it must go
out within `Timeouts.connect`, hence no larger."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds, each measured on a clock that does not jump."""

    connect: float = 20.0
    """Also how long one piece of an upload may stall."""
    read: float = 30.0
    """For one answer to a question, and for one piece of a result."""
    start: float = 120.0
    """For the answer to a start with links: the server may look at the links."""
    upload: float = 600.0
    """For the answer to a start with files, once they are sent."""
    download: float = 3600.0
    """For a whole result, all attempts together."""


class PrivateAddressError(Exception):
    """A host that should be public has a private address."""


class NoAuth(AuthBase):
    """Keeps requests from sending what a `.netrc` says about the host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class KeyAuth(NoAuth):
    """Puts the key on one request, so that no session carries it along."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-API-Key"] = self._key.get_secret_value()
        return request


def bare_session(url: str, public_only: bool = False) -> requests.Session:
    """A session for one request to `url`. Proxies from the environment are used, except for this
    machine itself.

    `public_only` refuses a connection to a private address, whatever the host's name resolves to
    at that moment. Through a proxy it is the proxy that resolves names, and that answers for them.
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
    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, blocksize=_BLOCK, **options)


class _PublicAdapter(_Adapter):
    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PublicPool, "https": _PublicTlsPool}


class _Judged(HTTPConnection):
    """Looks whom it reached before anything is asked."""

    def connect(self) -> None:
        super().connect()
        assert self.sock is not None, "connected"
        with suppress(OSError, ValueError):  # gone again, which whoever asks will see
            if not is_public_remote(ipaddress.ip_address(self.sock.getpeername()[0])):
                self.close()
                raise PrivateAddressError


class _JudgedTls(_Judged, HTTPSConnection): ...


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _Judged  # pyright: ignore[reportAssignmentType] - as urllib3 does itself


class _PublicTlsPool(HTTPSConnectionPool):
    ConnectionCls = _JudgedTls  # pyright: ignore[reportAssignmentType]

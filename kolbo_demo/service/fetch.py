"""Downloads linked files without server-side request forgery.

A host name is resolved once, its addresses are checked, and the connection goes to a checked
address, which defeats DNS rebinding. (The pattern is safehttpx's transport; this one checks more
kinds of address, keeps the port in `Host`, and needs no third-party resolver.) Each redirect is
checked as well. Size and time are limited.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from urllib.parse import urljoin, urlsplit

from kolbo_demo.contract import MAX_FILE_BYTES
from kolbo_demo.ip_policy import Address, is_local_name, is_public, is_public_remote, parse_address
from kolbo_demo.service.errors import JobError

if TYPE_CHECKING:
    import httpx

Field = Literal["source", "audio"]

MAX_REDIRECTS = 5
MAX_URL_CHARACTERS = 4096
_BAD_PORTS = frozenset(
    [1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080]
) | set(range(6665, 6670))
"""Bad ports of the Fetch standard from 1024 on."""
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Policy:
    """Limits of a download."""

    allow_hosts: frozenset[str] = frozenset()
    """`host` or `host:port`, lower case, that may have private addresses."""
    max_bytes: int = MAX_FILE_BYTES
    seconds: float = 300.0
    """For one file, redirects included."""
    idle_seconds: float = 20.0
    """Between two chunks."""

    def exempt(self, url: "httpx.URL") -> bool:
        """Whether the host may have private addresses."""
        return bool({url.host, f"{url.host}:{_port(url)}"} & self.allow_hosts)


def check(link: str, field: Field, policy: Policy) -> None:
    """Check a link without network access. Raises JobError."""
    _parse(link, field, policy)


def fetch(
    link: str, field: Field, file: BinaryIO, policy: Policy, should_continue: Callable[[], bool]
) -> None:
    """Download `link` to `file`. Raises JobError; returns early once `should_continue` is False."""
    asyncio.run(_run_while(_fetch(link, field, file, policy), should_continue))


async def _run_while(work: Coroutine[Any, Any, None], should_continue: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=0.3))[0]:
            if not await asyncio.to_thread(should_continue):
                return
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    task.result()


async def _fetch(link: str, field: Field, file: BinaryIO, policy: Policy) -> None:
    try:
        async with asyncio.timeout(policy.seconds):
            for _ in range(MAX_REDIRECTS + 1):
                url = _parse(link, field, policy)
                target = await _get(url, field, file, policy)
                if target is None:
                    return
                try:
                    link = urljoin(str(url), target)
                except ValueError:
                    raise _failed(field, "redirects to no link", "LINK_REDIRECTS") from None
            raise _failed(field, "leads from one redirect to the next", "LINK_REDIRECTS")
    except TimeoutError:
        raise _failed(
            field, f"was not finished after {policy.seconds:g} s", "LINK_TIMEOUT", retryable=True
        ) from None


async def _get(url: "httpx.URL", field: Field, file: BinaryIO, policy: Policy) -> str | None:
    """Write the body to `file`, or return the target of a redirect."""
    # Not at the top: only links need httpx, and every command would load it.
    import httpx

    from kolbo_demo.service.pinned_transport import PinnedTransport

    addresses = await _addresses(url, field, policy)
    timeout = httpx.Timeout(policy.idle_seconds, connect=10)
    for number, address in enumerate(addresses, start=1):
        try:
            async with (
                httpx.AsyncClient(
                    transport=PinnedTransport(address), trust_env=False, timeout=timeout
                ) as client,
                client.stream(
                    "GET",
                    url,
                    headers={"User-Agent": "kolbo-lipsync", "Accept-Encoding": "identity"},
                ) as response,
            ):
                return await _receive(response, field, file, policy)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise _failed(
                    field, "leads to a host that does not answer", "LINK_UNREACHABLE", True
                ) from None
        except httpx.TimeoutException:
            raise _failed(field, "stopped sending", "LINK_TIMEOUT", True) from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise _failed(field, "broke off", "LINK_BROKEN", True) from None
    raise AssertionError("_addresses returns at least one")


async def _receive(
    response: "httpx.Response", field: Field, file: BinaryIO, policy: Policy
) -> str | None:
    if response.is_redirect:
        return response.headers.get("location", "")
    if response.status_code != 200:
        raise _failed(
            field,
            f"answers with HTTP status {response.status_code} instead of a file",
            "LINK_STATUS",
            response.status_code in (408, 425, 429) or response.status_code >= 500,
        )
    if response.headers.get("content-type", "").startswith(("text/html", "application/xhtml")):
        raise _failed(field, "gives a web page, not a file", "LINK_NOT_A_FILE")
    if response.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise _failed(field, "gives a file compressed on the way", "LINK_NOT_A_FILE")
    size = response.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > policy.max_bytes:
        raise _too_large(field, policy)
    file.seek(0)
    file.truncate()
    received = 0
    async for chunk in response.aiter_raw(_CHUNK):
        received += len(chunk)
        if received > policy.max_bytes:
            raise _too_large(field, policy)
        file.write(chunk)
    if not received:
        raise _failed(field, "gives an empty file", "LINK_NOT_A_FILE")
    return None


def _parse(link: str, field: Field, policy: Policy) -> "httpx.URL":
    import httpx

    try:
        url = httpx.URL(link)
        host = url.host
        urlsplit(link)  # refuses stray brackets
    except (httpx.InvalidURL, TypeError, ValueError):
        raise _refused(field, "is not a link") from None
    if len(link) > MAX_URL_CHARACTERS:
        raise _refused(field, "is too long")
    if url.scheme not in ("http", "https") or not host:
        raise _refused(field, "must begin with http:// or https:// and name a host")
    if "%" in host.partition("%25")[0] or any(c.isspace() for c in host):
        raise _refused(field, "names no host that there can be")
    if url.userinfo:
        raise _refused(field, "must not carry a user name or password")
    if policy.exempt(url):
        return url
    if not 0 < _port(url) < 65536:
        raise _refused(field, f"uses port {_port(url)}, which there is not")
    if (_port(url) not in (80, 443) and _port(url) < 1024) or _port(url) in _BAD_PORTS:
        raise _refused(field, f"uses port {_port(url)}, which is not one for web files")
    address = parse_address(host)
    if (address and not is_public(address)) or is_local_name(host):
        raise _private(field)
    return url


async def _addresses(url: "httpx.URL", field: Field, policy: Policy) -> list[Address]:
    """Permitted addresses of the host, without duplicates. Raises JobError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.host, _port(url), type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        raise _failed(
            field, "names a host that cannot be found", "LINK_UNREACHABLE", True
        ) from None
    # ipaddress keeps the scope ("%eth0") of a link-local address.
    addresses = [ipaddress.ip_address(str(entry[4][0])) for entry in found]
    if not policy.exempt(url):
        addresses = [address for address in addresses if is_public_remote(address)]
    if not addresses:
        raise _private(field)
    return list(dict.fromkeys(addresses))


def _port(url: "httpx.URL") -> int:
    if url.port is not None:
        return url.port
    return 443 if url.scheme == "https" else 80


def _refused(field: Field, problem: str) -> JobError:
    return JobError(
        f"The link to the {field} {problem}; give a public http or https link.",
        category="link",
        code=f"INVALID_{field.upper()}_URL",
    )


def _private(field: Field) -> JobError:
    return _refused(field, "leads to a private or local address")


def _failed(field: Field, problem: str, code: str, retryable: bool = False) -> JobError:
    return JobError(
        f"The link to the {field} {problem}; check that it opens the file itself, "
        "or upload the file.",
        category="link",
        code=code,
        retryable=retryable,
    )


def _too_large(field: Field, policy: Policy) -> JobError:
    limit = policy.max_bytes // (1024 * 1024)
    return JobError(
        f"The link to the {field} gives more than {limit} MB; give a smaller file.",
        category="link",
        code="FILE_TOO_LARGE",
    )

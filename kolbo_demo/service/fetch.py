"""Files that visitors link to, fetched so that a link cannot reach what is not public.

A host name is resolved once and each address judged; the connection goes to a judged address, so
a name that answers differently the second time gains nothing. (The pattern is safehttpx's
transport; this one judges more kinds of address, keeps the port in `Host`, and asks no third
party for names.) Redirects are followed by hand, each one judged anew. Size and time are bounded.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from urllib.parse import urljoin, urlsplit

from kolbo_demo.contract import MAX_FILE_BYTES, is_retryable_status
from kolbo_demo.ip_policy import Address, is_local_name, is_public, is_public_remote, parse_address
from kolbo_demo.service.errors import JobError

if TYPE_CHECKING:
    import httpx

Field = Literal["source", "audio"]

MAX_REDIRECTS = 5
MAX_URL_CHARACTERS = 4096
_OTHER_PORTS = frozenset(
    [1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080]
) | set(range(6665, 6670))
"""Not for the web by the Fetch standard ("bad ports"), above those below 1024."""
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Policy:
    """How far a fetch may go."""

    allow_hosts: frozenset[str] = frozenset()
    """`host` or `host:port`, lower case, that may have private addresses."""
    max_bytes: int = MAX_FILE_BYTES
    seconds: float = 300.0
    """For one file, redirects included."""
    idle_seconds: float = 20.0
    """For one answer of the other side."""

    def exempt(self, url: "httpx.URL") -> bool:
        """Whether the owner of this service named the host as one that may be private."""
        return bool({url.host, f"{url.host}:{_port(url)}"} & self.allow_hosts)


def check(link: str, field: Field, policy: Policy) -> None:
    """Refuse what can be seen to be wrong without asking anyone. Raises JobError."""
    _parse(link, field, policy)


def fetch(
    link: str, field: Field, file: BinaryIO, policy: Policy, wanted: Callable[[], bool]
) -> None:
    """Write what `link` holds to `file`. Raises JobError; returns early when no longer wanted."""
    asyncio.run(_while_wanted(_fetch(link, field, file, policy), wanted))


async def _while_wanted(work: Coroutine[Any, Any, None], wanted: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=0.3))[0]:
            if not await asyncio.to_thread(wanted):
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
    """Write the answer's body to `file`, or return where it redirects to."""
    # Here, not above: only links need httpx, and every call of the command line would load it.
    import httpx

    from kolbo_demo.service.pinned import Pinned

    addresses = await _addresses(url, field, policy)
    timeout = httpx.Timeout(policy.idle_seconds, connect=10)
    for number, address in enumerate(addresses, start=1):
        try:
            async with (
                httpx.AsyncClient(
                    transport=Pinned(address), trust_env=False, timeout=timeout
                ) as client,
                client.stream(
                    "GET",
                    url,
                    headers={"User-Agent": "kolbo-lipsync", "Accept-Encoding": "identity"},
                ) as answer,
            ):
                return await _receive(answer, field, file, policy)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise _failed(
                    field, "leads to a host that does not answer", "LINK_UNREACHABLE", True
                ) from None
        except httpx.TimeoutException:
            raise _failed(field, "stopped sending", "LINK_TIMEOUT", True) from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise _failed(field, "broke off", "LINK_BROKEN", True) from None
    raise AssertionError("no address left over is refused by _addresses")


async def _receive(
    answer: "httpx.Response", field: Field, file: BinaryIO, policy: Policy
) -> str | None:
    if answer.is_redirect:
        return answer.headers.get("location", "")
    if answer.status_code != 200:
        raise _failed(
            field,
            f"answers with HTTP status {answer.status_code} instead of a file",
            "LINK_STATUS",
            is_retryable_status(answer.status_code),
        )
    if answer.headers.get("content-type", "").startswith(("text/html", "application/xhtml")):
        raise _failed(field, "gives a web page, not a file", "LINK_NOT_A_FILE")
    if answer.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise _failed(field, "gives a file compressed on the way", "LINK_NOT_A_FILE")
    size = answer.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > policy.max_bytes:
        raise _too_large(field, policy)
    file.seek(0)
    file.truncate()
    received = 0
    async for chunk in answer.aiter_raw(_CHUNK):
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
        urlsplit(link)  # which refuses stray brackets
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
    if (_port(url) not in (80, 443) and _port(url) < 1024) or _port(url) in _OTHER_PORTS:
        raise _refused(field, f"uses port {_port(url)}, which is not one for web files")
    address = parse_address(host)
    if (address and not is_public(address)) or is_local_name(host):
        raise _private(field)
    return url


async def _addresses(url: "httpx.URL", field: Field, policy: Policy) -> list[Address]:
    """The addresses of the host that may be asked, each once. Raises JobError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.host, _port(url), type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        raise _failed(
            field, "names a host that cannot be found", "LINK_UNREACHABLE", True
        ) from None
    # A scope ("%eth0") marks a link-local address; ipaddress keeps it and still says so.
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

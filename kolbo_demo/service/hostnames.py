"""The host names under which a server answers."""

import functools
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from kolbo_demo.ip_policy import is_loopback
from kolbo_demo.settings import Settings, space_host

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]{0,252}))(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Site:
    """The host names under which a server answers."""

    loopback: bool = True
    """Whether it listens on loopback only. Then a name must be that of loopback, with the port."""
    names: frozenset[str] = frozenset()
    """More names, each with any port, or `name:port`."""
    space: str | None = None
    """Host of a Hugging Face Space, whose page on huggingface.co may frame this one."""
    any_name: bool = False
    """Whether any name is served, by a service that needs a key with every request."""
    public: str | None = None
    """The configured public URL: origin and prefix."""
    prefix: str = ""
    """Configured path prefix, "" or "/lipsync", which a proxy may strip or not."""
    frames: frozenset[str] = frozenset()
    """Origins of more pages that may frame this one, in the syntax of Content-Security-Policy."""

    @classmethod
    def of(cls, settings: Settings, host: str, *, any_name: bool = False) -> "Site":
        """The site of a server that listens on `host`."""
        space = space_host()
        loopback = is_loopback(host) and space is None
        own = frozenset() if loopback or _address(host) else frozenset({host.lower()})
        return cls(
            loopback,
            settings.allowed_hosts | own,
            space,
            any_name,
            settings.public_url,
            settings.root_path,
            settings.frame_ancestors,
        )

    @functools.lru_cache(1024)  # noqa: B019 - a server has one site
    def serves(self, host: str, server: tuple[str, int | None] | None) -> bool:
        """Whether a Host header names this server; `server` is the address that was reached.

        Without `names` a public server serves IP addresses and names that public DNS does not
        have, so that no website can rebind its own name to this server.
        """
        found = split_host(host)
        if found is None:
            return False
        name, port = found
        if name in self.names or f"{name}:{port or 80}" in self.names or name == self.space:
            return True
        if self.is_public(host):
            return True
        address = _address(name)
        if self.loopback:
            here = name == "localhost" or (address is not None and address.is_loopback)
            own = address is None or not server or str(address) in {server[0], "127.0.0.1", "::1"}
            return here and own and (not server or (port or 80) == server[1])
        if self.any_name or address is not None:
            return True
        return "." not in name or name.endswith(".local")

    def is_public(self, host: str) -> bool:
        """Whether a Host header is that of the public URL; proxies often drop its port."""
        found, own = split_host(host), split_host(urlsplit(self.public or "").netloc)
        return bool(found and own and found[0] == own[0] and found[1] in {None, own[1]})

    @property
    def origin(self) -> str | None:
        return self.public.removesuffix(self.prefix) if self.public else None

    @property
    def only_loopback(self) -> bool:
        """Whether all names are loopback's, such as those of a tunnel."""
        public = [urlsplit(self.public).netloc] if self.public else []
        hosts = [split_host(name) for name in [*self.names, *public]]
        return self.loopback and all(host and is_loopback(host[0].strip("[]")) for host in hosts)

    @property
    def frame_ancestors(self) -> str:
        """The pages that may frame this one, in the syntax of Content-Security-Policy."""
        more = [] if self.space is None else ["https://huggingface.co"]
        for name in sorted(self.names):
            where = name if ":" in name.rpartition("]")[2] else f"{name}:*"
            more += [f"http://{where}", f"https://{where}"]
        return " ".join(["'self'", *more, *sorted(self.frames)])


@functools.lru_cache(1024)
def split_host(host: str) -> tuple[str, int | None] | None:
    """Name, in lower case, and port of a Host header; None if invalid."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return None
    return found[1], int(found[2]) if found[2] else None


@functools.lru_cache(4096)
def is_address(host: str) -> bool:
    """Whether a host is an IP address, perhaps with a scope."""
    return _address(host.partition("%")[0]) is not None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None

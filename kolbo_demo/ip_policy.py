"""Classification of IP addresses and host names: public, private, local."""

import contextlib
import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's platform services, reachable from its machines only
        "192.0.0.0/24",  # protocol assignments: anycast to the nearest relay (RFC 6890)
        "2001::/23",  # the same for IPv6
        "192.88.99.0/24",  # relays into 6to4 (RFC 7526)
        "3fff::/20",  # documentation (RFC 9637), newer than some Pythons
        "5f00::/16",  # SRv6 segments of the local network (RFC 9602)
        "64:ff9b:1::/48",  # local NAT64 (RFC 8215)
    )
)
"""Not public, although `is_global` is true in some Python versions."""

_UNASSIGNED = {socket.AF_INET: ("192.0.2.1", "198.51.100.1"), socket.AF_INET6: ("2001:db8::1",)}
"""Documentation addresses. If they can be bound, any address can."""


def is_public(address: Address) -> bool:
    """Whether an address, or the IPv4 address that it embeds, is on the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.teredo or address.is_site_local:
            return False
        inner = _embedded_ipv4(address)
        if inner is not None:
            return is_public(inner)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not any(address in network for network in _NOT_PUBLIC)
    )


def is_local_interface(address: Address) -> bool:
    """Whether an address, or the IPv4 address that it embeds, is assigned to this machine. A public
    one then reaches local listeners behind any firewall. Binds a socket; sends nothing."""
    inner = _embedded_ipv4(address) if isinstance(address, ipaddress.IPv6Address) else None
    if inner is not None and is_local_interface(inner):
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if not _can_bind(family, str(address)):
        return False
    if not all(_can_bind(family, free) for free in _UNASSIGNED[family]):
        return True
    # With net.ipv4.ip_nonlocal_bind every bind succeeds. The kernel then selects a local address as
    # its own source, except a secondary address of an interface.
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))
        return ipaddress.ip_address(probe.getsockname()[0]) == address
    return False


def is_public_remote(address: Address) -> bool:
    """Whether an address is public and not assigned to this machine."""
    return is_public(address) and not is_local_interface(address)


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address is routed to."""
    isatap = int(address) >> 32 & 0xFDFFFFFF == 0x5EFE  # RFC 5214, under any prefix
    if isatap or address in _NAT64 or address in _IPV4_COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def parse_address(host: str) -> Address | None:
    """The IP address in `host`, also in short, octal and hexadecimal form; None for a name."""
    host = host.rstrip(".")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    if host[:1].isdigit():
        with contextlib.suppress(OSError, UnicodeError):
            return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` is reachable from this machine only."""
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return host == "localhost" if address is None else address.is_loopback


def is_local_name(host: str) -> bool:
    """Whether a host name conventionally belongs to this machine or its network."""
    name = host.rstrip(".")
    return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))


def is_private_host(host: str) -> bool:
    """Whether a host name or address is private or this machine. Resolves names; one that does not
    resolve counts as public."""
    address = parse_address(host)
    if address is not None:
        return not is_public_remote(address)
    if is_local_name(host):
        return True
    try:
        resolved = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(is_public_remote(ipaddress.ip_address(str(entry[4][0]))) for entry in resolved)

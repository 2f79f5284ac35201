"""Links that are tricks: none reaches this machine or its network, and public ones pass.

Nothing leaves the machine: names are resolved by a table, and connections that would go to a public
address end at a server on loopback, which reports their target.
"""

import io
import ipaddress
import socket

import anyio
import pytest

from kolbo_demo.ip_policy import is_public
from kolbo_demo.service import fetch
from kolbo_demo.service.errors import JobError

PUBLIC = "93.184.216.34"
SECRET = b"what only this machine may see"

# PORT is that of a server on loopback which would tell the secret.
TRICKS = [
    "http://127.0.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://017700000001:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://0177.1:PORT/",
    "http://00000177.0.0.1:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f000001.:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0x7f.1:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://127.255.255.254:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://127。0。0。1:PORT/",
    "http://１２７.0.0.1:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://127.0.0.1%00.example.com:PORT/",
    "http://localhost:PORT/",
    "http://localhost.:PORT/",
    "http://LOCALHOST:PORT/",
    "http://LocalHost.:PORT/",
    "http://ｌocalhost:PORT/",
    "http://anything.localhost:PORT/",
    "http://localhost.localdomain:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0000::ffff:127.0.0.1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b::7f00:1]:PORT/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1::80ff:fffe]:PORT/",
    "http://[2a00:1450::5efe:127.0.0.1]:PORT/",
    "http://[fe80::1%25lo]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[fec0::1]:PORT/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]:PORT/",
    "http://[3fff::1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://192.0.0.170/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://100.64.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/latest/meta-data/",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://metadata.google.internal/",
    "http://instance-data.ec2.internal/",
    "http://printer.local/",
    "http://user@127.0.0.1:PORT/",
    "http://user:word@example.com/",
    "http://example.com@127.0.0.1:PORT/",
    "http://example.com:80@127.0.0.1:PORT/",
    "http://example.com\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@example.com/",
    "http://127.0.0.1:PORT#@example.com/",
    "http://127.0.0.1:PORT?@example.com/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "\\\\127.0.0.1\\share",
    "https://127.0.0.1:PORT/",
    "HTTP://127.0.0.1:PORT/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "FILE:/etc/passwd",
    "gopher://127.0.0.1:PORT/_GET%20/",
    "dict://127.0.0.1:PORT/info",
    "ldap://127.0.0.1:PORT/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "jar:http://127.0.0.1:PORT/!/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "http://example.com:22/",
    "http://example.com:25/",
    "http://example.com:6000/",
    "http://example.com:6667/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:-1/",
]


class Net:
    """Names by a table; what was connected to, and what public addresses really are."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {"example.com": [[PUBLIC]]}
        """Each name's answers, one after another; the last one stays."""
        self.lookups: list[str] = []
        self.connected: list[str] = []


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch, web) -> Net:
    web.serve("/", SECRET)
    found = Net()
    connect = anyio.connect_tcp
    resolve = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **more):
        name = host.decode() if isinstance(host, bytes) else host
        if name in found.names:
            found.lookups.append(name)
            answers = found.names[name]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            return [entry for a in addresses for entry in resolve(a, port, *args, **more)]
        try:  # numbers in any spelling, as the system reads them; other names are not looked up
            socket.inet_aton(name)
        except OSError:
            if ":" not in name and not name.rstrip(".").lower().endswith(("localhost", "domain")):
                raise socket.gaierror(socket.EAI_NONAME, "no such name") from None
            name = "127.0.0.1" if ":" not in name else name
        return resolve(name, port, *args, **more)

    async def connect_tcp(remote_host, remote_port, **more):
        found.connected.append(remote_host)
        assert is_public(ipaddress.ip_address(remote_host)), remote_host
        return await connect("127.0.0.1", web.port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    return found


def fetched(link: str, policy: fetch.Policy | None = None) -> bytes:
    file = io.BytesIO()
    fetch.fetch(link, "source", file, policy or fetch.Policy(), lambda: True)
    return file.getvalue()


def refused(link: str) -> str:
    with pytest.raises(JobError) as caught:
        fetched(link)
    assert caught.value.failure.category == "link"
    return caught.value.code


def test_the_table_of_addresses_is_complete() -> None:
    assert len(set(TRICKS)) >= 90


@pytest.mark.parametrize("trick", TRICKS)
def test_hostile_links_reach_nothing(trick: str, net: Net, web) -> None:
    assert refused(trick.replace("PORT", str(web.port))) in (
        "INVALID_SOURCE_URL",
        "LINK_UNREACHABLE",
    )
    assert (net.connected, web.requests) == ([], [])


@pytest.mark.parametrize("trick", TRICKS[::5])
def test_redirects_to_hostile_links_reach_nothing(trick: str, net: Net, web) -> None:
    """From a public host. Some of them are relative paths then, and lead back to that host."""
    web.redirect("/start", trick.replace("PORT", str(web.port)))
    web.paths.pop("/")
    refused("http://example.com/start")
    assert set(net.connected) == {PUBLIC}


@pytest.mark.parametrize(
    "link",
    [
        "http://example.com/",
        "http://EXAMPLE.com./",
        "https://example.com/",
        "http://example.com:8080/",
        f"http://{PUBLIC}/",
        f"http://[::ffff:{PUBLIC}]/",
        f"http://[64:ff9b::{PUBLIC}]/",
        "http://[2606:2800:220:1:248:1893:25c8:1946]/",
        "http://1572395042/",
        "http://exämple.com/",
        "http://example.com/#@127.0.0.1",
        "http://example.com/?next=http://127.0.0.1/",
    ],
)
def test_public_links_are_fetched(link: str, net: Net) -> None:
    net.names |= {"example.com.": [[PUBLIC]], "exämple.com": [[PUBLIC]]}
    if link.startswith("https"):
        assert refused(link) in ("LINK_UNREACHABLE", "LINK_BROKEN"), "TLS meets none here"
    else:
        assert fetched(link) == SECRET
    assert net.connected
    assert all(is_public(ipaddress.ip_address(address)) for address in net.connected)


def test_dns_rebinding_reaches_nothing(net: Net) -> None:
    net.names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert fetched("http://rebind.example/") == SECRET
    assert net.lookups == ["rebind.example"], "one lookup, whose result is connected to"
    assert net.connected == [PUBLIC]
    assert refused("http://rebind.example/") == "INVALID_SOURCE_URL"
    assert net.connected == [PUBLIC]


def test_of_many_addresses_only_public_ones_are_tried(net: Net) -> None:
    net.names["both.example"] = [["127.0.0.1", "::1", "10.0.0.1", PUBLIC, "169.254.169.254"]]
    assert fetched("http://both.example/") == SECRET
    assert net.connected == [PUBLIC]
    net.names["none.example"] = [["127.0.0.1", "fd00::1"]]
    assert refused("http://none.example/") == "INVALID_SOURCE_URL"


def test_a_redirect_is_resolved_and_checked_again(net: Net, web) -> None:
    net.names["turncoat.example"] = [[PUBLIC], ["192.168.1.1"]]
    web.redirect("/start", "http://turncoat.example/start")
    assert refused("http://turncoat.example/start") == "INVALID_SOURCE_URL"
    assert net.connected == [PUBLIC]

"""Links reach neither private addresses in any dress nor this machine's own public ones."""

import ipaddress
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kolbo_demo.ip_policy import is_local_interface, is_private_host, is_public_remote

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.9.8.7", "100.64.0.1", "100.127.255.254", "127.9.9.9"),
        *("169.254.169.254", "172.16.3.4", "192.0.0.9", "192.0.0.10", "192.0.2.1", "192.88.99.1"),
        *(
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.251",
        ),
        *("240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *("::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
        *(
            "::ffff:100.64.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::100.64.0.1",
        ),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("64:ff9b::198.18.0.1", "64:ff9b:1::1.1.1.1", "2002:6440:1::", "2002:c612:1::1"),
        *("2001:0:6440:1::1", "2001:db8::1", "3fff::1", "100::1", "2001:10::1", "2001:1::1"),
        *("2001:20::1", "5f00::1"),
        *("2a00:1450::5efe:100.64.0.1", "2a00:1450::200:5efe:10.0.0.1"),
    ],
)
def test_what_is_not_public(address: str):
    assert not is_public_remote(ipaddress.ip_address(address))
    assert is_private_host(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "100.128.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700::1"]
)
def test_what_is(address: str):
    assert is_public_remote(ipaddress.ip_address(address))


def test_loopback_is_own_and_nobody_else_s_is():
    assert is_local_interface(ipaddress.ip_address("127.0.0.1"))
    assert is_local_interface(ipaddress.ip_address("::ffff:127.0.0.1"))
    assert not is_local_interface(ipaddress.ip_address("93.184.216.34"))


_INSIDE = """
import http.server, io, subprocess, sys, threading
from kolbo_demo.ip_policy import is_local_interface, is_private_host
from kolbo_demo.service import fetch
from kolbo_demo.service.errors import JobError
import ipaddress, pathlib

for command in (
    "link set lo up",
    "addr add 93.184.216.34/32 dev lo", "addr add 93.184.216.35/32 dev lo",
    "-6 addr add 2606:2800:220:1::5/128 dev lo",
):
    subprocess.run(["ip", *command.split()], check=True)

class Secret(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"secret")
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Secret)
threading.Thread(target=server.serve_forever, daemon=True).start()

def fetched(host, *allowed):
    out = io.BytesIO()
    policy = fetch.Policy(allow_hosts=frozenset(allowed))
    try:
        fetch.fetch(f"http://{host}:8080/", "source", out, policy, lambda: True)
    except JobError as error:
        return error.code
    return out.getvalue().decode()

own = ["93.184.216.34", "93.184.216.35", "[2606:2800:220:1::5]", "1572395042",
    "[::ffff:93.184.216.34]", "[64:ff9b::5db8:d822]", "[2002:5db8:d822::1]"]
for host in own:
    assert fetched(host) == "INVALID_SOURCE_URL", (host, fetched(host))
    assert is_private_host(host.strip("[]")), host
assert fetched("93.184.216.34", "93.184.216.34") == "secret"
assert not is_local_interface(ipaddress.ip_address("93.184.216.36"))
try:
    pathlib.Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text("1")
except OSError:
    print("no sysctl")
else:
    assert fetched("93.184.216.34") == "INVALID_SOURCE_URL"
    assert not is_local_interface(ipaddress.ip_address("93.184.216.36")), "any can be bound to"
    assert not is_local_interface(ipaddress.ip_address("8.8.8.8"))
print("done")
"""


def test_this_machine_s_public_addresses_are_refused():
    """In a network of its own, which ends with the process."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip")
    made = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _INSIDE],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    if "Operation not permitted" in made.stderr and "unshare" in made.stderr:
        pytest.skip("no network namespace can be had here")
    assert made.returncode == 0, made.stderr
    assert "done" in made.stdout

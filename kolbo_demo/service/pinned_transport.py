"""httpx transport to one checked address."""

import ssl
from functools import cache

import httpx

from kolbo_demo.ip_policy import Address


class PinnedTransport(httpx.AsyncHTTPTransport):
    """Connects to one checked address; the request, TLS and `Host` still name the host."""

    def __init__(self, address: Address) -> None:
        super().__init__(verify=_tls(), trust_env=False, http2=False)
        self._address = str(address)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = request.extensions | {"sni_hostname": request.url.host}
        request.url = request.url.copy_with(host=self._address)
        return await super().handle_async_request(request)


@cache
def _tls() -> ssl.SSLContext:
    """Loading it takes longer than most downloads."""
    return httpx.create_ssl_context(trust_env=False)

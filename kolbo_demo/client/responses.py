"""What came back, read: an answer as a document or as the error it means, a silence as words."""

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
import urllib3
from pydantic import BaseModel, ValidationError

from kolbo_demo.client.errors import ApiError, AuthError, NotFoundError, RateLimitError
from kolbo_demo.client.retry import retry_after
from kolbo_demo.client.session import PrivateAddressError

Doc = TypeVar("Doc", bound=BaseModel)

_REMEDIES = {
    "INSUFFICIENT_CREDITS": "Add credits to your account.",
    "MODEL_NOT_FOUND": "Choose one of the models that the API lists.",
}
"""Said where the API's own words are a bare "Insufficient credits"."""


@dataclass(frozen=True)
class Silence:
    """No answer came."""

    why: str
    """Part of a sentence."""
    remedy: str = "Check the connection and try again."
    passing: bool = True
    """Whether it may pass by itself within seconds."""

    @classmethod
    def of(cls, error: Exception) -> "Silence":
        """Why, without addresses or headers."""
        causes = list(_causes(error))

        def met(*kinds: type[BaseException]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        if met(PrivateAddressError):
            return cls("it has a private address", "Check the link.", False)
        if met(ssl.SSLCertVerificationError):
            return cls(
                "its certificate was not accepted",
                "Check the base URL, this machine's clock, and whether a proxy opens the traffic "
                "on the way.",
                False,
            )
        cut = (ConnectionError, TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
        if met(ssl.SSLError) and not met(*cut):
            return cls(
                "it does not speak TLS",
                "Check whether the base URL should begin with http:// rather than https://.",
                False,
            )
        if met(requests.exceptions.ProxyError):
            return cls("the proxy did not let it through", "Check HTTPS_PROXY and the proxy.")
        if met(socket.gaierror):
            return cls(
                "its name was not found",
                "Check the base URL for a typing mistake, and the connection to the internet.",
                False,
            )
        if met(ConnectionRefusedError):
            return cls(
                "it refused the connection",
                "Check the base URL and its port, and that the service there is running.",
                False,
            )
        if met(requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            return cls("it did not answer in time")
        return cls("the connection broke")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was raised for, which the libraries keep in various places."""
    waiting: list[object] = [error]
    met: set[int] = set()
    while waiting:
        this = waiting.pop()
        if isinstance(this, BaseException) and id(this) not in met:
            met.add(id(this))
            yield this
            waiting += [this.__cause__, this.__context__, getattr(this, "reason", None), *this.args]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the API, or of something that stands in front of it."""

    host: str
    status: int
    headers: Mapping[str, str]
    document: dict[str, Any] | None
    """The body where it is a JSON object."""

    @classmethod
    def of(cls, host: str, response: requests.Response, content: bytes, secret: str) -> "Answer":
        """`secret` is cut out of whatever the other side says."""
        try:
            document = json.loads(content.decode("utf-8", "replace").replace(secret, "***"))
        except (ValueError, RecursionError):
            document = None
        known = document if isinstance(document, dict) else None
        return cls(host, response.status_code, response.headers, known)

    @property
    def succeeded(self) -> bool:
        """HTTP 2xx."""
        return self.status // 100 == 2

    @property
    def refused(self) -> bool:
        """Whether the API itself says no, in either of its envelopes. A status document may say
        `success: false` of its generation: that is no refusal."""
        doc = self.document or {}
        return (doc.get("success") is False or doc.get("status") is False) and not doc.get("state")

    @property
    def asked_to_wait(self) -> float | None:
        """`Retry-After` in seconds."""
        return retry_after(self.headers)

    def read(self, shape: type[Doc]) -> Doc | ApiError:
        """The document asked for, or the error that stands for the answer (not raised)."""
        if self.succeeded and self.document is not None and not self.refused:
            try:
                return shape.model_validate(self.document)
            except ValidationError:
                return self._error(None)
        return self._error(self._words())

    def _words(self) -> str | None:
        doc = self.document or {}
        said = doc.get("error") or doc.get("message")
        if isinstance(said, dict):
            said = said.get("message")
        return said.strip().rstrip(".")[:500] or None if isinstance(said, str) else None

    def _error(self, said: str | None) -> ApiError:
        code = (self.document or {}).get("code")
        details: dict[str, Any] = {
            "status": self.status,
            "code": code if isinstance(code, str) else None,
            "request_id": self.headers.get("X-Request-Id") or self.headers.get("CF-Ray"),
        }
        if self.status == 401 or (self.status == 403 and not said):
            return AuthError(
                f"{self.host} does not accept this API key. Check the key, and that it belongs to "
                "this address.",
                **details,
            )
        if self.status == 403:
            return AuthError(f"{said}.", **details)
        if self.status == 404:
            return NotFoundError(
                f"{said or f'{self.host} knows no such thing'}. Check the id and the base URL.",
                **details,
            )
        if self.status == 429:
            wait = self.asked_to_wait
            error = RateLimitError(
                f"{self.host} has had too many requests from you. Try again in "
                f"{f'{wait:.0f} seconds' if wait else 'a minute'}.",
                **details,
            )
            error.retry_after = wait
            return error
        if self.status == 413 and not said:  # as proxies say it
            return ApiError(
                f"The files are too large for {self.host}. Send shorter or smaller ones.",
                **details,
            )
        if self.status // 100 == 3:
            return ApiError(
                f"{self.host} answers with a redirect, which is not followed, so that the key goes "
                "nowhere else. Check the base URL.",
                **details,
            )
        if said:
            remedy = _REMEDIES.get(details["code"] or "", "") if ". " not in said else ""
            return ApiError(f"{said}. {remedy}".strip(), **details)
        return ApiError(
            f"{self.host} gave an answer that cannot be read (HTTP {self.status}). "
            "Try again later, or check the base URL.",
            **details,
        )

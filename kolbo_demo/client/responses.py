"""HTTP responses as documents or typed errors, and connection errors as sentences."""

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
from kolbo_demo.client.retry import parse_retry_after
from kolbo_demo.client.session import PrivateAddressError

Document = TypeVar("Document", bound=BaseModel)

_REMEDIES = {
    "INSUFFICIENT_CREDITS": "Add credits to your account.",
    "MODEL_NOT_FOUND": "Choose one of the models that the API lists.",
}
"""Advice for codes whose message is as bare as "Insufficient credits"."""


@dataclass(frozen=True)
class NoResponse:
    """A request that got no response."""

    reason: str
    """Completes a sentence: "it did not answer in time"."""
    remedy: str = "Check the connection and try again."
    retryable: bool = True
    """Whether the cause may disappear within seconds."""

    @classmethod
    def of(cls, error: Exception) -> "NoResponse":
        """From an exception of requests, urllib3 or the system; holds no address or header."""
        causes = list(_causes(error))

        def caused_by(*kinds: type[BaseException]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        if caused_by(PrivateAddressError):
            return cls("it has a private address", "Check the link.", False)
        if caused_by(ssl.SSLCertVerificationError):
            return cls(
                "its certificate was not accepted",
                "Check the base URL, this machine's clock, and whether a proxy opens the traffic "
                "on the way.",
                False,
            )
        cut = (ConnectionError, TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
        if caused_by(ssl.SSLError) and not caused_by(*cut):
            return cls(
                "it does not speak TLS",
                "Check whether the base URL should begin with http:// rather than https://.",
                False,
            )
        if caused_by(requests.exceptions.ProxyError):
            return cls("the proxy did not let it through", "Check HTTPS_PROXY and the proxy.")
        if caused_by(socket.gaierror):
            return cls(
                "its name was not found",
                "Check the base URL for a typing mistake, and the connection to the internet.",
                False,
            )
        if caused_by(ConnectionRefusedError):
            return cls(
                "it refused the connection",
                "Check the base URL and its port, and that the service there is running.",
                False,
            )
        if caused_by(requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            return cls("it did not answer in time")
        return cls("the connection broke")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, which the libraries store in different attributes."""
    pending: list[object] = [error]
    visited: set[int] = set()
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and id(cause) not in visited:
            visited.add(id(cause))
            yield cause
            reason = getattr(cause, "reason", None)
            pending += [cause.__cause__, cause.__context__, reason, *cause.args]


@dataclass(frozen=True)
class ApiResponse:
    """An HTTP response of the API, or of a gateway in front of it."""

    host: str
    status: int
    headers: Mapping[str, str]
    document: dict[str, Any] | None
    """The body if it is a JSON object."""

    @classmethod
    def of(
        cls, host: str, response: requests.Response, content: bytes, secret: str
    ) -> "ApiResponse":
        """`secret` is replaced wherever the body repeats it."""
        try:
            document = json.loads(content.decode("utf-8", "replace").replace(secret, "***"))
        except (ValueError, RecursionError):
            document = None
        document = document if isinstance(document, dict) else None
        return cls(host, response.status_code, response.headers, document)

    @property
    def is_success(self) -> bool:
        return self.status // 100 == 2

    @property
    def is_refusal(self) -> bool:
        """Whether the API itself refused, in either of its error envelopes. A status document with
        `success: false` reports a failed generation and is not a refusal."""
        body = self.document or {}
        failed = body.get("success") is False or body.get("status") is False
        return failed and not body.get("state")

    @property
    def retry_after(self) -> float | None:
        """`Retry-After` in seconds."""
        return parse_retry_after(self.headers)

    def parse(self, model: type[Document]) -> Document | ApiError:
        """The body as a `model`, or the error that it means (returned, not raised)."""
        if self.is_success and self.document is not None and not self.is_refusal:
            try:
                return model.model_validate(self.document)
            except ValidationError:
                return self._error(None)
        return self._error(self._message())

    def _message(self) -> str | None:
        """The API's own words, without a full stop."""
        body = self.document or {}
        text = body.get("error") or body.get("message")
        if isinstance(text, dict):
            text = text.get("message")
        return text.strip().rstrip(".")[:500] or None if isinstance(text, str) else None

    def _error(self, message: str | None) -> ApiError:
        code = (self.document or {}).get("code")
        details: dict[str, Any] = {
            "status": self.status,
            "code": code if isinstance(code, str) else None,
            "request_id": self.headers.get("X-Request-Id") or self.headers.get("CF-Ray"),
        }
        if self.status == 401 or (self.status == 403 and not message):
            return AuthError(
                f"{self.host} does not accept this API key. Check the key, and that it belongs to "
                "this address.",
                **details,
            )
        if self.status == 403:
            return AuthError(f"{message}.", **details)
        if self.status == 404:
            return NotFoundError(
                f"{message or f'{self.host} knows no such thing'}. Check the id and the base URL.",
                **details,
            )
        if self.status == 429:
            wait = self.retry_after
            error = RateLimitError(
                f"{self.host} has had too many requests from you. Try again in "
                f"{f'{wait:.0f} seconds' if wait else 'a minute'}.",
                **details,
            )
            error.retry_after = wait
            return error
        if self.status == 413 and not message:  # as proxies say it
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
        if message:
            remedy = _REMEDIES.get(details["code"] or "", "") if ". " not in message else ""
            return ApiError(f"{message}. {remedy}".strip(), **details)
        return ApiError(
            f"{self.host} gave an answer that cannot be read (HTTP {self.status}). "
            "Try again later, or check the base URL.",
            **details,
        )

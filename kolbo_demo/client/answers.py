"""What came back, read: an answer as a document or as the error it means, a silence as words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
import urllib3
from pydantic import BaseModel, ValidationError

from kolbo_demo.client.errors import ApiError, AuthError, NotFoundError, RateLimitError
from kolbo_demo.client.retry import retry_after

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

    @classmethod
    def of(cls, error: Exception) -> "Silence":
        """Why, without addresses or headers."""
        text = repr(error)
        if isinstance(error, requests.exceptions.SSLError):
            why = "its certificate was not accepted"
        elif isinstance(error, requests.exceptions.ProxyError):
            why = "the proxy did not let it through"
        elif isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
            why = "it did not answer in time"
        elif "NameResolutionError" in text:
            why = "its name was not found"
        elif "NewConnectionError" in text:
            why = "it refused the connection"
        else:
            why = "the connection broke"
        return cls(why)


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
        return retry_after(self.headers.get("Retry-After"))

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

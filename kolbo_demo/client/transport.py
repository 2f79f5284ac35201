"""Authenticated requests to the API, with retries and typed errors."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import SecretStr

from kolbo_demo.client.errors import (
    ApiError,
    AuthError,
    InputError,
    KolboError,
    MaybeAcceptedError,
    UnreachableError,
)
from kolbo_demo.client.responses import ApiResponse, Document, NoResponse
from kolbo_demo.client.retry import Backoff, Retry
from kolbo_demo.client.session import ApiKeyAuth, Timeouts, stateless_session
from kolbo_demo.contract import is_retryable_status

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
"""Longest JSON response that is read."""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Body:
    """A streamed request body that counts what was sent.

    `sent` counts bytes handed to the connection. `fully_sent` becomes true when the connection asks
    for more after the last byte, that is, once all bytes are written. Until then the server cannot
    have the whole request, so it cannot have accepted it.
    """

    def __init__(
        self,
        stream: _Readable,
        size: int,
        content_type: str,
        on_sent: Callable[[int, int], None] | None = None,
    ) -> None:
        self._stream = stream
        self._on_sent = on_sent
        self.len = size  # requests reads this name for Content-Length
        self.content_type = content_type
        self.sent = 0
        self.fully_sent = False

    @classmethod
    def of_json(cls, document: dict[str, Any]) -> "Body":
        text = json.dumps(document, allow_nan=False).encode()
        return cls(io.BytesIO(text), len(text), "application/json")

    def read(self, size: int = -1) -> bytes:
        """The next bytes; empty at the end."""
        if self._on_sent:
            self._on_sent(self.sent, self.len)
        chunk = self._stream.read(size)
        self.sent += len(chunk)
        self.fully_sent = not chunk
        return chunk


@dataclass(frozen=True, repr=False)
class Transport:
    """Requests to one API with one key. Safe to share between threads."""

    base_url: str
    key: SecretStr
    retry: Retry
    timeouts: Timeouts

    @property
    def host(self) -> str:
        """Host name of the API, for messages."""
        return urlsplit(self.base_url).hostname or self.base_url

    def get(
        self,
        path: str,
        model: type[Document],
        params: dict[str, str] | None = None,
        deadline: float | None = None,
        answered_before: bool = False,
    ) -> Document:
        """GET a document, with retries.

        `deadline` is a `time.monotonic()` time; without one `Retry.attempts` is the limit. A host
        that cannot be connected to at all (name, port or certificate) is retried only until a
        deadline, and only if it `answered_before`: it may be restarting.

        Raises the error of the last attempt: an `ApiError` or `UnreachableError`.
        """
        may_restart = answered_before and deadline is not None
        return self._request_with_retries("GET", path, model, params, None, deadline, may_restart)

    def post_idempotent(self, path: str, model: type[Document]) -> Document:
        """POST an empty document that may be repeated without harm, with the retries of `get`."""
        return self._request_with_retries("POST", path, model, None, {}, None, False)

    def post_once(self, path: str, body: Body, model: type[Document], timeout: float) -> Document:
        """POST a request that must not be repeated: at most once, whatever happens.

        Raises `UnreachableError` if the server cannot have the whole request, `MaybeAcceptedError`
        if it has and its decision is unknown, an `ApiError` if the API refused.
        """
        response = self._send("POST", path, None, body, timeout, None)
        error: KolboError
        if isinstance(response, NoResponse):
            error = UnreachableError(
                f"{self.host} could not be reached: {response.reason}. Nothing was started. "
                f"{response.remedy}"
            )
            unclear, reason = True, response.reason
        else:
            document = response.parse(model)
            if not isinstance(document, ApiError):
                return document
            error = document
            # A 5xx in the API's own envelope is its refusal. One from something in front of it (a
            # gateway's HTML page) says nothing about what happened behind.
            unclear = (response.is_success or response.status >= 500) and not response.is_refusal
            reason = f"its answer (HTTP {response.status}) cannot be read"
        if unclear and not body.fully_sent and isinstance(error, ApiError):
            error = ApiError(
                f"{self.host} broke the upload off (HTTP {error.status}). Nothing was started. Try "
                "again later.",
                status=error.status,
                request_id=error.request_id,
            )
        if unclear and body.fully_sent:
            error = MaybeAcceptedError(
                f"The request was sent whole to {self.host}, but {reason}. It may have been "
                "accepted: check your history, and whether your credits went down, before you send "
                "it again."
            )
        raise error

    def _request_with_retries(
        self,
        method: str,
        path: str,
        model: type[Document],
        params: dict[str, str] | None,
        document: dict[str, Any] | None,
        deadline: float | None,
        may_restart: bool,
    ) -> Document:
        backoff = Backoff(self.retry, deadline, limit_attempts=deadline is None)
        while True:
            body = None if document is None else Body.of_json(document)
            response = self._send(method, path, params, body, self.timeouts.read, deadline)
            if isinstance(response, NoResponse):
                error: KolboError = UnreachableError(
                    f"{self.host} could not be reached: {response.reason}. {response.remedy}"
                )
                retryable, retry_after = response.retryable or may_restart, None
            else:
                parsed = response.parse(model)
                if not isinstance(parsed, ApiError):
                    return parsed
                error = parsed
                # A 2xx that cannot be parsed was cut short, or came from something in between.
                retryable = (
                    not response.is_refusal
                    if response.is_success
                    else is_retryable_status(response.status)
                )
                retry_after = response.retry_after
            pause = backoff.next_pause(retry_after) if retryable else None
            if pause is None:
                raise error
            time.sleep(pause)

    def _send(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None,
        body: Body | None,
        timeout: float,
        deadline: float | None,
    ) -> ApiResponse | NoResponse:
        """Make one request. Exceptions of requests hold the request and with it the key, so they
        do not leave this method, not even as the cause of another."""
        if deadline is not None:
            timeout = min(timeout, max(deadline - time.monotonic(), 0.5))
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = body.content_type
        try:
            with (
                stateless_session(self.base_url) as session,
                session.request(
                    method,
                    self.base_url + path,
                    params=params,
                    data=body,
                    headers=headers,
                    auth=ApiKeyAuth(self.key),
                    timeout=(min(self.timeouts.connect, timeout), timeout),
                    # On a redirect to another host requests removes Authorization, not our header.
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                content = _read_all(response, min(timeout, self.timeouts.read))
                return ApiResponse.of(self.host, response, content, self.key.get_secret_value())
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return NoResponse.of(error)


def _read_all(response: requests.Response, timeout: float) -> bytes:
    """The body. Raises OSError if it is too long or takes longer than `timeout` in all."""
    deadline = time.monotonic() + timeout
    content = bytearray()
    while chunk := response.raw.read1(65536, decode_content=True):
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise OSError("The answer is too long.")
        if time.monotonic() > deadline:
            raise TimeoutError("The answer takes too long.")
    return bytes(content)


def validate_base_url(url: str) -> str:
    """The base URL without a trailing slash. Raises `InputError` if it is no usable http(s) URL."""
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.username
        usable = usable and not parts.query and not parts.fragment
        requests.Request("GET", url).prepare()
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            "The base URL must look like https://api.kolbo.ai/api. Check KOLBO_API_URL or the "
            "base URL you gave."
        )
    return url


def validate_key(key: SecretStr | None) -> SecretStr:
    """The key, stripped. Raises `AuthError`, without the key in it, if it does not fit a header."""
    text = key.get_secret_value().strip() if key else ""
    if not text:
        raise AuthError("There is no Kolbo API key. Set KOLBO_API_KEY or give a key.")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise AuthError(
            "The API key holds characters that no key has. Copy it again, without spaces or quotes."
        )
    return SecretStr(text)

"""HTTP to Kolbo: what is asked, with the key, how often, and what the silence means."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
from kolbo_demo.client.responses import Answer, Doc, Silence
from kolbo_demo.client.retry import Retry
from kolbo_demo.client.session import KeyAuth, Timeouts, bare_session

REPLY_LIMIT = 16 * 1024 * 1024
"""Bytes of JSON that are read before giving up on an answer."""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Body:
    """A request body that is streamed, and that knows how far it went.

    `sent` counts bytes handed to the connection. `whole` becomes true once the connection asked for
    more after the last one, that is, when everything before it was written. Until then the server
    cannot have the whole request, so it cannot have accepted it.
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
        self.whole = False

    @classmethod
    def of_json(cls, document: dict[str, Any]) -> "Body":
        """A JSON document as a body."""
        text = json.dumps(document, allow_nan=False).encode()
        return cls(io.BytesIO(text), len(text), "application/json")

    def read(self, size: int = -1) -> bytes:
        """The next piece; empty at the end."""
        if self._on_sent:
            self._on_sent(self.sent, self.len)
        piece = self._stream.read(size)
        self.sent += len(piece)
        self.whole = not piece
        return piece


@dataclass(frozen=True, repr=False)
class Transport:
    """Asks one API with one key. Safe to share between threads."""

    base_url: str
    key: SecretStr
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def host(self) -> str:
        """Who is asked, for messages."""
        return urlsplit(self.base_url).hostname or self.base_url

    def get(
        self,
        path: str,
        shape: type[Doc],
        params: dict[str, str] | None = None,
        deadline: float | None = None,
        known: bool = False,
    ) -> Doc:
        """Asks until an answer of the given shape comes.

        `deadline` is a `time.monotonic()` time; without one the policy's number of attempts holds.
        A host that is not there at all (name, port or certificate) is asked again only until a
        deadline, and only if it is `known` to have answered before: it may be restarting.
        Raises what the last attempt met: `ApiError` and its kin, or `UnreachableError`.
        """
        patient = known and deadline is not None
        return self._until_answered("GET", path, shape, params, None, deadline, patient)

    def post_again(self, path: str, shape: type[Doc]) -> Doc:
        """An empty POST that does no harm when repeated, with the same retries as `get`."""
        return self._until_answered("POST", path, shape, None, {}, None, False)

    def post_once(self, path: str, body: Body, shape: type[Doc], seconds: float) -> Doc:
        """Sends a request that must not be made twice: at most once, whatever happens.

        Raises `UnreachableError` where the server cannot have had the whole request,
        `MaybeAcceptedError` where it had and nobody knows what it made of it, `ApiError` and its
        kin where the API refused.
        """
        answer = self._ask("POST", path, None, body, seconds, None)
        error: KolboError
        if isinstance(answer, Silence):
            error = UnreachableError(
                f"{self.host} could not be reached: {answer.why}. Nothing was started. "
                f"{answer.remedy}"
            )
            unclear, why = True, answer.why
        else:
            found = answer.read(shape)
            if not isinstance(found, ApiError):
                return found
            error = found
            # A 5xx in the API's own envelope is its refusal. One from something in front of it (a
            # gateway's HTML page) says nothing about what happened behind.
            unclear = (answer.succeeded or answer.status >= 500) and not answer.refused
            why = f"its answer (HTTP {answer.status}) cannot be read"
        if unclear and not body.whole and isinstance(error, ApiError):
            error = ApiError(
                f"{self.host} broke the upload off (HTTP {error.status}). Nothing was started. Try "
                "again later.",
                status=error.status,
                request_id=error.request_id,
            )
        if unclear and body.whole:
            error = MaybeAcceptedError(
                f"The request was sent whole to {self.host}, but {why}. It may have been accepted: "
                "check your history, and whether your credits went down, before you send it again."
            )
        raise error

    def _until_answered(
        self,
        method: str,
        path: str,
        shape: type[Doc],
        params: dict[str, str] | None,
        document: dict[str, Any] | None,
        deadline: float | None,
        patient: bool,
    ) -> Doc:
        attempt = 0
        while True:
            body = None if document is None else Body.of_json(document)
            answer = self._ask(method, path, params, body, self.timeouts.read, deadline)
            if isinstance(answer, Silence):
                error: KolboError = UnreachableError(
                    f"{self.host} could not be reached: {answer.why}. {answer.remedy}"
                )
                if not (answer.passing or patient):
                    raise error
                asked = None
            else:
                found = answer.read(shape)
                if not isinstance(found, ApiError):
                    return found
                error = found
                # A 2xx that is no answer was cut short, or came from something in between.
                if answer.refused if answer.succeeded else not Retry.worth(answer.status):
                    raise error
                asked = answer.asked_to_wait
            pause = self.retry.pause(attempt, asked)
            attempt += 1
            if deadline is None:
                if attempt >= self.retry.attempts:
                    raise error
            else:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise error
                pause = min(pause, left)
            time.sleep(pause)

    def _ask(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None,
        body: Body | None,
        seconds: float,
        deadline: float | None,
    ) -> Answer | Silence:
        """One request. The errors of requests hold the request and with it the key: they end here,
        not even as the cause of ours."""
        if deadline is not None:
            seconds = min(seconds, max(deadline - time.monotonic(), 0.5))
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = body.content_type
        try:
            with (
                bare_session(self.base_url) as session,
                session.request(
                    method,
                    self.base_url + path,
                    params=params,
                    data=body,
                    headers=headers,
                    auth=KeyAuth(self.key),
                    timeout=(min(self.timeouts.connect, seconds), seconds),
                    # requests takes only Authorization off on the way to another host, not our key.
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                content = _read_all(response, min(seconds, self.timeouts.read))
                return Answer.of(self.host, response, content, self.key.get_secret_value())
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return Silence.of(error)


def _read_all(response: requests.Response, seconds: float) -> bytes:
    """The body, however slowly it drips. Raises OSError when it is too long or takes too long."""
    end = time.monotonic() + seconds
    content = bytearray()
    while piece := response.raw.read1(65536, decode_content=True):
        content += piece
        if len(content) > REPLY_LIMIT:
            raise OSError("The answer is too long.")
        if time.monotonic() > end:
            raise TimeoutError("The answer takes too long.")
    return bytes(content)


def checked_base(url: str) -> str:
    """The base of an API without a slash at its end. Raises `InputError` where it cannot be one."""
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


def checked_key(key: SecretStr | None) -> SecretStr:
    """The key, fit for a header. Raises `AuthError`, which never shows it."""
    text = key.get_secret_value().strip() if key else ""
    if not text:
        raise AuthError("There is no Kolbo API key. Set KOLBO_API_KEY or give a key.")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise AuthError(
            "The API key holds characters that no key has. Copy it again, without spaces or quotes."
        )
    return SecretStr(text)

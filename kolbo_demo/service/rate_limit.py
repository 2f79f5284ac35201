"""Keys, rates and sizes: what a request may do before anything is done for it."""

import hmac
import math
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from kolbo_demo.contract import MAX_FILE_BYTES
from kolbo_demo.service.errors import ApiError

MAX_JSON_BYTES = 1024 * 1024
MAX_TEXT_BYTES = 64 * 1024
"""One text field of a form."""
MAX_PROMPT_CHARACTERS = 2000
MAX_UPLOAD_BYTES = 2 * MAX_FILE_BYTES + MAX_JSON_BYTES
"""Two files and the text beside them."""
MAX_FORM_PARTS = 100
MINUTE = 60.0
UPLOAD_AGAIN_SECONDS = 5
UNFINISHED_AGAIN_SECONDS = 30
VISITOR = "visitor"
"""With which the names of visitors' keys begin."""
_PREFIX = "kolbo_live_"
_MARK = 16
"""Hex digits of a visitor's key that tell whose it is; the rest shows that it was made here."""


@dataclass(frozen=True)
class Limits:
    """Requests a minute. Kolbo's own figures by default."""

    generations: int = 10
    """Started generations, per key."""
    polls: int = 300
    """Every other call that needs a key, per client address, or per visitor where the page calls
    for one; also attempts to start."""
    unfinished: int = 20
    """Generations that wait or run, per key or visitor."""
    uploads: int = 8
    """Start requests under way, per key or visitor."""


class TooManyError(ApiError):
    """429 with the body that Kolbo's docs print and `Retry-After` in whole seconds."""

    def __init__(
        self, seconds: float, message: str = "Too many requests, please try again later"
    ) -> None:
        super().__init__(
            429,
            "RATE_LIMITED",
            message,
            {"Retry-After": str(max(1, math.ceil(seconds)))},
        )


class Window:
    """At most `limit` events a name within any `seconds`; thread-safe, in memory."""

    def __init__(
        self, limit: int, seconds: float = MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._events: dict[str, deque[float]] = {}
        self._sweep_at = clock() + seconds

    def take(self, name: str) -> float:
        """Count one event; the stamp is for `give_back`. Raises TooManyError at the limit."""
        with self._lock:
            now = self._clock()
            self._sweep(now)
            events = self._events.setdefault(name, deque())
            while events and events[0] <= now - self._seconds:
                events.popleft()
            if len(events) >= self._limit:
                raise TooManyError(events[0] + self._seconds - now)
            events.append(now)
            return now

    def give_back(self, name: str, stamp: float) -> None:
        """Forget an event that came to nothing."""
        with self._lock:
            events = self._events.get(name)
            if events and stamp in events:
                events.remove(stamp)

    def _sweep(self, now: float) -> None:
        """Names that went quiet are dropped, so that strangers cannot fill the memory."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._seconds
        for name in [n for n, e in self._events.items() if not e or e[-1] <= now - self._seconds]:
            del self._events[name]


class UnderWay:
    """At most `limit` requests under way a name. For one event loop."""

    def __init__(self, limit: int, message: str, seconds: float = UPLOAD_AGAIN_SECONDS) -> None:
        """`message` and `seconds` are those of the refusal."""
        self._limit, self._message, self._seconds = limit, message, seconds
        self._count: Counter[str] = Counter()

    def one(self, name: str) -> AbstractContextManager[int]:
        """Count one from now until the end of the block that must follow; gives how many there are
        with it. Raises TooManyError."""
        if self._count[name] >= self._limit:
            raise TooManyError(self._seconds, self._message)
        self._count[name] += 1
        return self._held(name)

    @contextmanager
    def _held(self, name: str) -> Iterator[int]:
        try:
            yield self._count[name]
        finally:
            self._count -= Counter([name])  # drops what is at 0


def new_key() -> SecretStr:
    """A random key of the shape that Kolbo's have."""
    return SecretStr(_PREFIX + secrets.token_hex(20))


class Keys:
    """The keys that a service takes: those it was given, and one for each visitor of its page.

    The latter are made out of a secret of this process, so none has to be remembered and nobody
    can make one up; they end with the process.
    """

    def __init__(self, given: SecretStr | None) -> None:
        """`given` are keys, comma separated; where there is none, one is made up."""
        parts = (part.strip() for part in (given.get_secret_value() if given else "").split(","))
        self._given = [SecretStr(part) for part in parts if part] or [new_key()]
        self._secret = secrets.token_bytes(32)

    @property
    def first(self) -> SecretStr:
        """The one for whoever needs a single key."""
        return self._given[0]

    def of_visitor(self, visitor: str) -> SecretStr:
        """The key of one visitor of the page, whose limits are his alone."""
        mark = self._sealed(b"visitor " + visitor.encode("utf-8", "replace"))[:_MARK]
        return SecretStr(_PREFIX + mark + self._seal(mark))

    def name(self, sent: str | None) -> str:
        """Whose key was sent, by a name that does not tell it. Raises ApiError 401 where it is
        nobody's; takes as long for any wrong one."""
        key = (sent or "").encode("utf-8", "replace")
        found = [hmac.compare_digest(key, one.get_secret_value().encode()) for one in self._given]
        mark = (sent or "").removeprefix(_PREFIX)[:_MARK]
        sealed = (_PREFIX + mark + self._seal(mark)).encode("utf-8", "replace")
        if hmac.compare_digest(key, sealed):
            return f"{VISITOR} {mark}"
        if sent is None or True not in found:
            raise ApiError(
                401,
                "INVALID_API_KEY",
                "The API key is missing or wrong: send this service's key in the X-API-Key header.",
            )
        return f"key {found.index(True)}"

    def _seal(self, mark: str) -> str:
        """What nobody else can put behind a mark."""
        return self._sealed(b"mark " + mark.encode("utf-8", "replace"))[: 40 - _MARK]

    def _sealed(self, text: bytes) -> str:
        return hmac.digest(self._secret, text, "sha256").hex()


def too_large(what: str, limit: int) -> ApiError:
    """413 for something of more than `limit` bytes."""
    return ApiError(
        413,
        "FILE_TOO_LARGE",
        f"The {what} is over {limit // (1024 * 1024)} MB; make it smaller.",
    )

"""API keys of the service: the configured ones, and one per visitor of its page."""

import hmac
import secrets

from pydantic import SecretStr

from kolbo_demo.service.errors import ApiError

VISITOR_PREFIX = "visitor"
"""Prefix of the caller names that visitors' keys give."""
_KEY_PREFIX = "kolbo_live_"
_VISITOR_ID_DIGITS = 16
"""Hex digits of a visitor's key that identify the visitor; the rest is their signature."""


def new_key() -> SecretStr:
    """A random key in the format of Kolbo's."""
    return SecretStr(_KEY_PREFIX + secrets.token_hex(20))


class ApiKeys:
    """The keys that a service accepts.

    Visitors' keys are derived from a secret of this process: they need no storage, cannot be
    forged, and expire with the process.
    """

    def __init__(self, configured: SecretStr | None) -> None:
        """`configured` are keys, comma separated; without any, one is generated."""
        text = configured.get_secret_value() if configured else ""
        parts = (part.strip() for part in text.split(","))
        self._configured = [SecretStr(part) for part in parts if part] or [new_key()]
        self._secret = secrets.token_bytes(32)

    @property
    def default(self) -> SecretStr:
        """The first configured key."""
        return self._configured[0]

    def visitor_key(self, visitor: str) -> SecretStr:
        """The key of one visitor of the page, with rate limits of its own."""
        visitor_id = self._hmac(b"visitor " + visitor.encode("utf-8", "replace"))
        visitor_id = visitor_id[:_VISITOR_ID_DIGITS]
        return SecretStr(_KEY_PREFIX + visitor_id + self._signature(visitor_id))

    def authenticate(self, key: str | None) -> str:
        """The caller name of a key, which does not reveal it. Raises ApiError 401.

        Runs in constant time for all wrong keys.
        """
        text = key or ""
        sent = text.encode("utf-8", "replace")
        matches = [
            hmac.compare_digest(sent, configured.get_secret_value().encode())
            for configured in self._configured
        ]
        visitor_id = text.removeprefix(_KEY_PREFIX)[:_VISITOR_ID_DIGITS]
        expected = _KEY_PREFIX + visitor_id + self._signature(visitor_id)
        if hmac.compare_digest(sent, expected.encode("utf-8", "replace")):
            return f"{VISITOR_PREFIX} {visitor_id}"
        if key is None or True not in matches:
            raise ApiError(
                401,
                "INVALID_API_KEY",
                "The API key is missing or wrong: send this service's key in the X-API-Key header.",
            )
        return f"key {matches.index(True)}"

    def _signature(self, visitor_id: str) -> str:
        text = b"mark " + visitor_id.encode("utf-8", "replace")
        return self._hmac(text)[: 40 - _VISITOR_ID_DIGITS]

    def _hmac(self, text: bytes) -> str:
        return hmac.digest(self._secret, text, "sha256").hex()

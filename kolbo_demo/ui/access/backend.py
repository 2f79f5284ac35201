"""The API of a visitor, local service or Kolbo's cloud, and the key for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from kolbo_demo.client import InputError, KolboClient, Retry
from kolbo_demo.service.gate import Caller
from kolbo_demo.ui.access.key_allowance import Allowance
from kolbo_demo.ui.i18n import texts

Backend = Literal["local", "cloud"]
LOCAL: Backend = "local"
CLOUD: Backend = "cloud"


@dataclass(frozen=True)
class Local:
    """The local service, as the page reaches it."""

    base_url: str
    """`/api` included."""
    api_key: SecretStr
    problem: Callable[[], str | None] = lambda: None
    """Gives one sentence where the local engine cannot run here. Asked each time: the service
    begins to work after the page is built."""
    visitor_key: Callable[[str], SecretStr] | None = None
    """Gives the key of one visitor, whose limits are his alone; None: all share `api_key`."""

    def key(self, caller: Caller | None) -> SecretStr:
        """The key for a visitor's work, or for the page's own where there is none."""
        if caller is None or self.visitor_key is None:
            return self.api_key
        return self.visitor_key(caller.visitor)


@dataclass(frozen=True)
class Access:
    """Makes a client for one click. Holds keys, shows none.

    Each method takes the caller of the event; None is the page itself, before anybody asks.
    """

    local: Local
    cloud_url: str
    environment_key: SecretStr | None
    private: bool
    """Whether only this machine reaches the page. Even then only its owner may spend the key of
    the environment: others reach it through tunnels, and other users of the machine do."""
    shared: Allowance | None = None
    """Limit of each visitor on the owner's key; None: visitors may not use it."""

    def own_key(self, caller: Caller | None = None) -> SecretStr | None:
        """The key that is used where the visitor types none."""
        return self.environment_key if self.is_owner(caller) or self.shared else None

    def withheld_from(self, caller: Caller | None) -> bool:
        """Whether a key is set that this caller may not spend."""
        return self.environment_key is not None and self.own_key(caller) is None

    @property
    def default(self) -> Backend:
        """Initial value of the switch."""
        return CLOUD if self.own_key() else LOCAL

    @property
    def cloud_host(self) -> str:
        """Host name of the cloud, for display."""
        return urlsplit(self.cloud_url).hostname or self.cloud_url

    def ready(self, backend: str, typed_key: str | None, caller: Caller | None = None) -> bool:
        """Whether a client can be made."""
        if backend == LOCAL:
            return self.local.problem() is None
        return bool((typed_key or "").strip() or self.own_key(caller))

    def allowance(
        self, backend: str, typed_key: str | None, caller: Caller | None = None
    ) -> Allowance | None:
        """Against what a generation counts; None where whoever asks for it pays."""
        if self.is_owner(caller) or backend == LOCAL or (typed_key or "").strip():
            return None
        return self.shared

    def client(
        self,
        backend: str,
        typed_key: str | None,
        caller: Caller | None = None,
        *,
        patient: bool = True,
    ) -> KolboClient:
        """A client for the chosen side; on the local one the caller's own limits count. One that is
        not `patient` asks once: for handlers of events, which must not sleep in a thread that
        others wait for. Raises `InputError` without an engine or a key."""
        retry = Retry() if patient else Retry(attempts=1)
        if backend == LOCAL:
            if problem := self.local.problem():
                raise InputError(problem)
            return KolboClient(self.local.key(caller), self.local.base_url, retry=retry)
        typed = (typed_key or "").strip()
        key = SecretStr(typed) if typed else self.own_key(caller)
        if key is None:
            raise InputError(texts.say("top.no_key"))
        return KolboClient(key, self.cloud_url, retry=retry)

    def is_owner(self, caller: Caller | None) -> bool:
        """Whether the key of the environment is the caller's own."""
        return self.private and (caller is None or caller.owner)

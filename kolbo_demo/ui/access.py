"""Which API answers, and with whose key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from kolbo_demo.client import KolboClient
from kolbo_demo.ui import texts
from kolbo_demo.ui.allowance import Allowance
from kolbo_demo.ui.inputs import UnusableError

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

    def key(self, visitor: str | None) -> SecretStr:
        """The key for a visitor's work, or for the page's own where there is none."""
        if visitor is None or self.visitor_key is None:
            return self.api_key
        return self.visitor_key(visitor)


@dataclass(frozen=True)
class Access:
    """Makes a client for one click. Holds keys, shows none."""

    local: Local
    cloud_url: str
    environment_key: SecretStr | None
    private: bool
    """Whether only this machine's user reaches the page. Others may not spend the key of the
    environment, unless its owner shares it."""
    shared: Allowance | None = None
    """What the owner lets each visitor spend of it; None: nothing."""

    @property
    def own_key(self) -> SecretStr | None:
        """The key that is used where the visitor types none."""
        return self.environment_key if self.private or self.shared else None

    @property
    def withheld(self) -> bool:
        """Whether a key is set that this page does not use."""
        return self.environment_key is not None and self.own_key is None

    @property
    def default(self) -> Backend:
        """What the switch stands on at first."""
        return CLOUD if self.own_key else LOCAL

    @property
    def cloud_host(self) -> str:
        """Who the cloud is, for people."""
        return urlsplit(self.cloud_url).hostname or self.cloud_url

    def ready(self, backend: str, typed_key: str | None) -> bool:
        """Whether a client can be made."""
        if backend == LOCAL:
            return self.local.problem() is None
        return bool((typed_key or "").strip() or self.own_key)

    def allowance(self, backend: str, typed_key: str | None) -> Allowance | None:
        """Against what a generation counts; None where whoever asks for it pays."""
        if self.private or backend == LOCAL or (typed_key or "").strip():
            return None
        return self.shared

    def client(
        self, backend: str, typed_key: str | None, visitor: str | None = None
    ) -> KolboClient:
        """A client for the chosen side. `visitor` is whose limits count on the local one. Raises
        `UnusableError` without an engine or a key."""
        if backend == LOCAL:
            if problem := self.local.problem():
                raise UnusableError(problem)
            return KolboClient(self.local.key(visitor), self.local.base_url)
        typed = (typed_key or "").strip()
        key = SecretStr(typed) if typed else self.own_key
        if key is None:
            raise UnusableError(texts.say("top.no_key"))
        return KolboClient(key, self.cloud_url)

"""Settings from environment variables, read on construction, never at import."""

import ipaddress
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import (
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kolbo_demo.ip_policy import is_loopback

CLOUD_URL = "https://api.kolbo.ai/api"
_PATH_PREFIX = re.compile(r"(/(?!\.+(/|$))[A-Za-z0-9._~-]+)*")
_RESERVED_PATHS = re.compile(
    r"/(api|assets|batches|cards|config|gradio_api|healthz|metrics|static|svelte|theme\.css)(/|$)"
)
"""First segments of the page's own paths. As a prefix they are ambiguous, since a proxy may strip
it or not."""
_ANCESTOR = re.compile(r"(https?://)?(\*\.)?([a-z0-9.-]+|\[[0-9a-f:.]+\])(:([0-9]{1,5}|\*))?")


def is_valid_prefix(path: str) -> bool:
    """Whether a path, "" or "/some/where", can be the root path of the page."""
    return bool(_PATH_PREFIX.fullmatch(path)) and not _RESERVED_PATHS.match(path)


def _default_proxies() -> str:
    """This machine; on a Hugging Face Space also the private network."""
    loopback = "127.0.0.1,::1"
    return f"{loopback},10.0.0.0/8" if "SPACE_ID" in os.environ else loopback


def space_host() -> str | None:
    """Host name of the Hugging Face Space; None elsewhere."""
    if "SPACE_ID" not in os.environ:
        return None
    named = re.sub(r"[^a-z0-9]+", "-", os.environ["SPACE_ID"].lower()).strip("-")
    return os.environ.get("SPACE_HOST", "").lower() or f"{named}.hf.space"


def _plain_url(text: str) -> HttpUrl:
    with suppress(ValidationError):
        url = HttpUrl(text)
        if not (url.username or url.password or url.query or url.fragment):
            return url
    raise ValueError(
        "KOLBO_PUBLIC_URL needs a scheme and a host, perhaps a path, and nothing else; write "
        "it as https://lips.example.com/lipsync."
    )


def describe_error(error: ValidationError) -> str:
    """One sentence about the first invalid setting."""
    first = error.errors()[0]
    name = "".join(f"KOLBO_{part}: ".upper() for part in first["loc"])
    return name + first["msg"].removeprefix("Value error, ").rstrip(".") + "."


class Settings(BaseSettings):
    """Every `KOLBO_*` variable this project reads. Secrets are masked in any repr."""

    model_config = SettingsConfigDict(env_prefix="KOLBO_", env_ignore_empty=True, extra="ignore")

    api_key: SecretStr | None = None
    """Key for Kolbo's cloud. Without it the page starts with the local engine."""

    api_url: str = CLOUD_URL
    """Base of Kolbo's API, `/api` included."""

    local_api_key: SecretStr | None = None
    """Key that the local service accepts, or several, comma separated, each with its own rate
    limits. Default: a random one."""

    data_dir: Path = Field(default_factory=lambda: user_data_path("kolbo-lipsync", appauthor=False))
    """Folder of the local service's database, inputs and results, unless `database_url` and
    `storage_url` say otherwise."""

    database_url: SecretStr | None = None
    """PostgreSQL that several machines share: `postgresql://...`."""

    render: bool = True
    """Whether the service renders, or leaves that to workers on the same PostgreSQL."""

    storage_url: str | None = None
    """Storage of inputs and results: a folder or an fsspec URL such as `s3://bucket`."""

    share_key: bool = False
    """Whether visitors of a public page spend the credits of `api_key`."""

    visitor_limit: float = Field(default=60.0, gt=0)
    """Seconds of audio that each visitor may spend a day."""

    trusted_proxies: str = Field(default_factory=_default_proxies)
    """Addresses and networks, comma separated, of proxies whose `X-Forwarded-For` is trusted."""

    allowed_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    """Host names of a reverse proxy, comma separated, `name` or `name:port`, that page and service
    accept in addition to their own address."""

    public_url: str | None = None
    """URL at which a proxy serves the page, including the path, without a trailing slash."""

    _root_path: str = PrivateAttr("")

    frame_ancestors: Annotated[frozenset[str], NoDecode] = frozenset()
    """Origins, comma separated, that may embed the page, as in Content-Security-Policy:
    `https://portal.example.com`, `https://*.example.com`."""

    page_token: SecretStr | None = None
    """Token that the page requires before it uses `api_key`; `off` for none. Default: a random
    one."""

    fetch_allow_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    """Hosts, comma separated, that links may point to despite a private address."""

    retention_hours: float = Field(default=24.0, gt=0)
    """How long results are retained."""

    max_disk_gb: float = Field(default=20.0, gt=0)
    """Disk space (10^9 bytes) for inputs and results together."""

    signing_cert: Path | None = None
    """PEM file of the certificate that signs the content credentials of results, and its issuers
    after it. Default: a self-signed one that this installation makes."""

    signing_key: Path | None = None
    """PEM file of its private key, without a password."""

    signing_dir: Path | None = None
    """Folder of the self-signed certificate. Default: `signing` in `data_dir`."""

    @property
    def signing_folder(self) -> Path:
        """`signing_dir` or its default."""
        return (self.signing_dir or self.data_dir / "signing").expanduser()

    log: Literal["text", "json"] = "text"
    """Log format: warnings as text, or every event as a JSON object a line."""

    def proxies_for(self, host: str) -> str:
        """Trusted proxies of a server that listens on `host`: `trusted_proxies`, but none if that
        is not set and `host` is loopback. Otherwise any local program could forge
        `X-Forwarded-For` and evade the limits by address."""
        behind_proxy = "trusted_proxies" in self.model_fields_set or "SPACE_ID" in os.environ
        return self.trusted_proxies if behind_proxy or not is_loopback(host) else ""

    page_disk_gb: float = Field(default=10.0, gt=0)
    """Disk space (10^9 bytes) for uploads, results and batches of all visitors of the page."""

    visitor_disk_gb: float = Field(default=2.0, gt=0)
    """Share of it for each visitor; the owner of a private page may use all."""

    @model_validator(mode="after")
    def _check_signing(self) -> "Settings":
        if (self.signing_cert is None) != (self.signing_key is None):
            raise ValueError(
                "KOLBO_SIGNING_CERT and KOLBO_SIGNING_KEY go together: set both to PEM files, or "
                "neither."
            )
        return self

    @model_validator(mode="after")
    def _locate(self) -> "Settings":
        root = os.environ.get("GRADIO_ROOT_PATH", "")
        if "://" in root:
            self.public_url, root = self.public_url or root, ""
        if self.public_url:
            url = _plain_url(self.public_url)
            path = (url.path or "").rstrip("/")
            root = path or root
            self.public_url = str(url).rstrip("/").removesuffix(path)
        root = f"/{root}".rstrip("/").replace("//", "/")
        if not is_valid_prefix(root):
            raise ValueError(
                f"The page cannot be served under the path {root}: part of it is the page's own, "
                "or no plain name; choose another, such as /lipsync."
            )
        self._root_path = root
        if self.public_url:
            self.public_url += root
        return self

    @property
    def root_path(self) -> str:
        """Path prefix at which a proxy serves the page, "" or "/lipsync": from `public_url`, else
        from `GRADIO_ROOT_PATH`."""
        return self._root_path

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        for each in filter(None, (part.strip() for part in value.split(","))):
            try:
                ipaddress.ip_network("0.0.0.0/0" if each == "*" else each)
            except ValueError:
                raise ValueError(
                    f"{each!r} is no IP address or network; write it as 10.0.0.5 or 10.0.0.0/8."
                ) from None
        return value

    @field_validator("frame_ancestors")
    @classmethod
    def _check_ancestors(cls, value: frozenset[str]) -> frozenset[str]:
        if wrong := sorted(each for each in value if not _ANCESTOR.fullmatch(each)):
            raise ValueError(f"{wrong[0]!r} is no origin; write it as https://portal.example.com.")
        return value

    @field_validator("fetch_allow_hosts", "allowed_hosts", "frame_ancestors", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(name.strip().lower() for name in value.split(",") if name.strip())
        return value

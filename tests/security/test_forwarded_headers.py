"""Forwarded headers count only where a proxy was named, or can be expected."""

from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from kolbo_demo.service.app import serving
from kolbo_demo.service.rate_limit import Limits
from kolbo_demo.settings import Settings

KEY = "kolbo_live_" + "0" * 40


def answers(tmp_path: Path, trusted: str | None) -> list[int]:
    """Statuses of ten polls, each with an address of its own, where five a minute are allowed."""
    settings = Settings(data_dir=tmp_path, local_api_key=SecretStr(KEY))
    if trusted is not None:
        settings = Settings(
            data_dir=tmp_path, local_api_key=SecretStr(KEY), trusted_proxies=trusted
        )
    with serving(settings, limits=Limits(polls=5)) as service:
        return [
            httpx.get(
                f"{service.base_url}/v1/account/credits",
                headers={"X-API-Key": KEY, "X-Forwarded-For": f"198.51.100.{number}"},
            ).status_code
            for number in range(10)
        ]


def test_a_forged_address_gains_no_polls_on_loopback(tmp_path: Path):
    assert answers(tmp_path, None) == [200] * 5 + [429] * 5


def test_a_configured_proxy_is_trusted(tmp_path: Path):
    assert answers(tmp_path, "127.0.0.1") == [200] * 10


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"])
def test_no_proxy_is_trusted_on_loopback(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KOLBO_TRUSTED_PROXIES", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert Settings().proxies_for(host) == ""
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert Settings().proxies_for(host) == "127.0.0.1,::1,10.0.0.0/8"
    monkeypatch.setenv("KOLBO_TRUSTED_PROXIES", "192.0.2.1")
    assert Settings().proxies_for(host) == "192.0.2.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.9", "kolbo.example"])
def test_a_public_service_trusts_proxies_on_this_machine(
    host: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("KOLBO_TRUSTED_PROXIES", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert Settings().proxies_for(host) == "127.0.0.1,::1"

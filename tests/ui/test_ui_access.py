"""Which side answers, and whose key is spent."""

import pytest
from pydantic import SecretStr

from kolbo_demo.client import InputError
from kolbo_demo.contract import Model
from kolbo_demo.ui.access.backend import CLOUD, LOCAL, Access, Local
from kolbo_demo.ui.panels.model_picker import label
from tests.scripted import Reply, Scripted

ENVIRONMENT = "kolbo_live_" + "e" * 40
TYPED = "kolbo_live_" + "7" * 40
BROKEN = "The local engine cannot run here: libEGL is missing."


def access(server: Scripted, key: str | None = ENVIRONMENT, private: bool = True) -> Access:
    local = Local(server.base_url, SecretStr("kolbo_live_local"))
    return Access(local, server.base_url, SecretStr(key) if key else None, private)


def key_used(server: Scripted, found: Access, backend: str, typed: str) -> str | None:
    server.on("GET /v1/models", Reply(json={"success": True, "models": []}))
    found.client(backend, typed).models()
    return server.requests[-1].headers["X-API-Key"]


def test_alone_on_this_machine_the_environment_pays(server: Scripted) -> None:
    found = access(server)
    assert found.default == CLOUD
    assert key_used(server, found, CLOUD, "") == ENVIRONMENT
    assert key_used(server, found, CLOUD, f" {TYPED} ") == TYPED


def test_visitors_cannot_spend_the_key_of_the_environment(server: Scripted) -> None:
    found = access(server, private=False)
    assert found.default == LOCAL
    assert found.withheld_from(None)
    assert not found.ready(CLOUD, "")
    with pytest.raises(InputError, match="needs a key"):
        found.client(CLOUD, " ")
    assert key_used(server, found, CLOUD, TYPED) == TYPED


def test_without_a_key_the_local_engine_answers(server: Scripted) -> None:
    found = access(server, key=None)
    assert found.default == LOCAL
    assert key_used(server, found, LOCAL, TYPED) == "kolbo_live_local"


def test_a_missing_engine_is_named(server: Scripted) -> None:
    local = Local(server.base_url, SecretStr("kolbo_live_local"), lambda: BROKEN)
    found = Access(local, server.base_url, None, private=True)
    assert not found.ready(LOCAL, "")
    with pytest.raises(InputError, match="libEGL"):
        found.client(LOCAL, "")
    assert found.ready(CLOUD, TYPED)


def test_no_key_shows() -> None:
    found = Access(
        Local("http://x/api", SecretStr(TYPED)), "http://y/api", SecretStr(ENVIRONMENT), True
    )
    assert TYPED not in repr(found)
    assert ENVIRONMENT not in repr(found)


def test_models_of_one_name_are_told_apart() -> None:
    still = Model(identifier="a/1", name="Warp", types=["lipsync-image"], credit=5)
    clip = Model(identifier="a/2", name="Warp", types=["lipsync", "lipsync-video"])
    assert label(still) == "Warp · pictures · 5 credits per second"
    assert label(clip) == "Warp · clips"
    assert label(Model(identifier="a/3")) == "a/3"

"""A Space whose visitors can sign in: the account counts against the shared key's allowance."""

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import itsdangerous
import pytest
import requests

from tests.browser.site import Site, serve
from tests.events import config_of
from tests.scripted import Reply, Scripted, serving
from tests.ui.test_ui_shared_key import OTHER, OWNER, VISITOR, generate

pytest.importorskip("authlib", reason="bash script/test installs it")

SECRET = "client-secret"
SPACE = "someone-lipsync.hf.space"
REFUSED, STARTED = "lasts 1.0 s", "Enough for this test"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Scripted]:
    with serving(Scripted()) as cloud:
        cloud.on("GET /v1/models", Reply(json={"success": True, "models": []}))
        cloud.starts()
        cloud.on_status({"state": "failed", "error": f"{STARTED}."})
        yield cloud


@pytest.fixture(scope="module")
def hub() -> Iterator[Scripted]:
    """The provider of accounts, as far as the redirect to it."""
    with serving(Scripted()) as hub:
        address = {"authorization_endpoint": f"{hub.url}/oauth/authorize"}
        hub.on("GET /.well-known/openid-configuration", Reply(json=address))
        yield hub


@pytest.fixture(scope="module")
def space(
    cloud: Scripted, hub: Scripted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with serve(
        tmp_path_factory.mktemp("space"),
        SYSTEM="spaces",
        SPACE_ID="someone/lipsync",
        SPACE_HOST=SPACE,
        OAUTH_CLIENT_ID="client",
        OAUTH_CLIENT_SECRET=SECRET,
        OAUTH_SCOPES="openid profile",
        OPENID_PROVIDER_URL=hub.url,
        KOLBO_API_URL=cloud.base_url,
        KOLBO_API_KEY=OWNER,
        KOLBO_SHARE_KEY="1",
        KOLBO_VISITOR_LIMIT="1.5",
    ) as site:
        yield site


def cookie(account: str, secret: str = SECRET, seconds: float = 600) -> str:
    """The session cookie of somebody who has signed in, as Gradio writes it."""
    info = {
        "userinfo": {"preferred_username": account, "name": account},
        "expires_at": time.time() + seconds,
    }
    key = sha256(f"{secret}-v4".encode()).hexdigest()
    session = b64encode(json.dumps({"oauth_info": info}).encode())
    return f"session={itsdangerous.TimestampSigner(key).sign(session).decode()}"


def test_an_account_has_one_allowance_wherever_it_is(space, portrait, speech) -> None:
    mine = cookie("ada")
    assert STARTED in generate(space.url, portrait, speech, "203.0.113.20", cookie=mine)
    assert REFUSED in generate(space.url, portrait, speech, "203.0.113.21", cookie=mine)
    theirs = cookie("grace")
    assert STARTED in generate(space.url, portrait, speech, "203.0.113.20", cookie=theirs)


def test_a_forged_cookie_counts_by_its_address(space, portrait, speech) -> None:
    whole = cookie("ada")
    assert STARTED in generate(space.url, portrait, speech, VISITOR)
    for forged in (
        cookie("eve", "other-secret"),
        cookie("eve", ""),
        cookie("eve", seconds=-1),
        whole.replace(".", "x.", 1),
        "session=" + cookie("eve").partition("=")[2].partition(".")[0],
    ):
        assert REFUSED in generate(space.url, portrait, speech, VISITOR, cookie=forged)


def test_without_an_account_an_address_counts(space, portrait, speech) -> None:
    assert STARTED in generate(space.url, portrait, speech, OTHER)
    assert REFUSED in generate(space.url, portrait, speech, OTHER)


def test_the_button_leads_to_the_hub(space: Site, hub: Scripted) -> None:
    ids = {part["props"].get("elem_id") for part in config_of(space.url)["components"]}
    assert "sign-in" in ids
    answer = requests.get(f"{space.url}/login/huggingface", allow_redirects=False, timeout=10)
    assert answer.status_code == 302
    where = urlsplit(answer.headers["Location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == f"{hub.url}/oauth/authorize"
    back = parse_qs(where.query)["redirect_uri"][0]
    assert back.startswith(f"https://{SPACE}/login/callback")
    assert SECRET not in answer.text + str(answer.headers)


def test_no_tool_is_added(space: Site) -> None:
    named = requests.get(f"{space.url}/gradio_api/info", timeout=10).json()["named_endpoints"]
    assert not [name for name in named if "login" in name or "check" in name]


def test_signing_out_leads_to_the_page_only(space: Site) -> None:
    for target in ("//evil.example.net/", "https://evil.example.net/x"):
        answer = requests.get(
            f"{space.url}/logout",
            params={"_target_url": target},
            allow_redirects=False,
            timeout=10,
        )
        assert "evil" not in answer.headers["Location"]


def test_without_the_variables_there_is_no_button(tmp_path: Path) -> None:
    home = tmp_path / "plain"
    home.mkdir()
    with serve(
        home, SYSTEM="spaces", SPACE_ID="a/b", KOLBO_SHARE_KEY="1", KOLBO_API_KEY=OWNER
    ) as site:
        ids = {part["props"].get("elem_id") for part in config_of(site.url)["components"]}
        assert "sign-in" not in ids
        for path in ("login/huggingface", "login/callback", "logout"):
            assert requests.get(f"{site.url}/{path}", timeout=10).status_code == 404

"""A public page whose owner shares a key: who spends how much of it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from kolbo_demo import ui
from kolbo_demo.client import ApiError, InputError, MaybeAcceptedError
from kolbo_demo.service.gate import visitor_of
from kolbo_demo.settings import Settings
from kolbo_demo.ui.access.backend import CLOUD
from kolbo_demo.ui.access.key_allowance import DAY, Allowance
from tests import events
from tests.scripted import Reply, Scripted
from tests.ui.serving import serving
from tests.ui.test_ui_mount import file_data, upload

OWNER = "kolbo_live_" + "0b" * 20
OWN = "kolbo_live_" + "77" * 20
VISITOR, OTHER = "203.0.113.7", "198.51.100.20"


@pytest.fixture
def public(server: Scripted, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts pages that strangers reach, with the owner's key, and gives their addresses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
        server.on("GET /v1/models", Reply(json={"success": True, "models": []}))
        server.starts()
        server.on_status({"state": "failed", "error": "Enough for this test."})
        with ExitStack() as pages:

            def start(**settings: object) -> str:
                found = Settings.model_validate(
                    {"api_key": OWNER, "api_url": server.base_url, "data_dir": tmp_path / "data"}
                    | settings
                )
                local = ui.Local("http://127.0.0.1:9/api", SecretStr("kolbo_live_local"))
                return pages.enter_context(serving(found, local, private=False))

            yield start


def press(
    url: str,
    target: tuple[str, str],
    given: dict,
    visitor: str,
    event_data: Any = None,
    cookie: str = "",
) -> str:
    """What the page answers to an event, as the browser of a visitor behind a proxy sends it.

    `target` is a part's id and the event, `given` holds values by a part's id, or type without one.
    """
    config = events.config_of(url)
    parts = {
        part["id"]: part["props"].get("elem_id") or part["type"] for part in config["components"]
    }
    filled = {part["id"]: part["props"].get("value") for part in config["components"]}
    event = events.event_of(config, *target)
    data = [given.get(parts.get(number) or "", filled.get(number)) for number in event["inputs"]]
    forwarded = {"X-Forwarded-For": visitor, "Cookie": cookie}
    session, answer = events.join(url, event["id"], data, event_data, headers=forwarded)
    answer.raise_for_status()
    return json.dumps([said.get("output") for said in events.heard(url, session, forwarded)])


def generate(
    url: str,
    source: Path,
    voice: Path | str,
    visitor: str = VISITOR,
    key: str = "",
    cookie: str = "",
) -> str:
    """Presses Generate; the last state shown."""
    given = {"backend": CLOUD, "api-key": key, "source-image": file_data(upload(url, source))}
    if isinstance(voice, str):
        given["audio-url"] = voice
    else:
        given["audio"] = file_data(upload(url, voice))
    return press(url, ("generate", "click"), given, visitor, cookie=cookie)


def starts(server: Scripted) -> list[str | None]:
    """The keys of all generations that were started."""
    path = "/api/v1/generate/lipsync"
    return [seen.headers["X-API-Key"] for seen in server.requests if seen.path == path]


def test_without_the_owner_s_word_nobody_spends_his_key(public, server, portrait, speech) -> None:
    assert "needs a key" in generate(public(), portrait, speech)
    assert "needs a key" in generate(public(share_key=False), portrait, speech)
    assert starts(server) == []


def test_each_visitor_spends_so_much_and_no_more(public, server, portrait, speech) -> None:
    page = public(share_key=True, visitor_limit=2.5)
    for _ in range(2):
        assert "Enough for this test" in generate(page, portrait, speech)
    refused = generate(page, portrait, speech)
    assert "lasts 1.0 s" in refused
    assert "of the 2 s" in refused
    assert "Enough for this test" in generate(page, portrait, speech, OTHER)
    assert starts(server) == [OWNER] * 3
    assert "Enough for this test" in generate(page, portrait, speech, key=OWN)
    assert starts(server) == [OWNER] * 3 + [OWN], "his own he may spend"
    assert "length" in generate(page, portrait, "http://example.com/a.mp3", OTHER)
    assert OWNER not in requests.get(f"{page}/config", timeout=10).text


def test_a_batch_spends_no_more(public, server, portrait, speech, tmp_path) -> None:
    page = public(share_key=True, visitor_limit=1.5)
    rows = tmp_path / "rows.csv"
    line = f"{portrait.name},{speech.name}\n"
    rows.write_text(f"source,audio\n{line}{line}{tmp_path / 'rows.csv'},{speech.name}\n")
    files = [file_data(upload(page, path)) for path in (rows, portrait, speech)]
    given = {"backend": CLOUD, "batch-files": files}
    said = press(page, ("batch-check", "click"), given, VISITOR)
    ticket = next(iter(set(re.findall(r'"([\w-]{22})"', said))))
    known = {"backend": CLOUD, "browserstate": [ticket], "batch-chosen": ticket}
    said = press(page, ("batch-start", "click"), known, VISITOR)
    deadline = time.monotonic() + 30
    while "Ended" not in said:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        said = press(page, ("batch-chosen", "input"), known, VISITOR)
    assert "Enough for this test" in said
    assert "lasts 1.0 s" in said
    assert "not among the uploaded files" in said
    folder = f"{page}/gradio_api/file={tmp_path / 'data' / 'batches'}"
    served = requests.get(f"{folder}/{ticket}/report.csv", timeout=10)
    assert served.status_code == 200
    assert served.headers["Content-Disposition"].startswith("attachment")
    for name in (f"{ticket}/checked.json", f"{ticket}/inputs/rows.csv", "x/report.csv"):
        assert requests.get(f"{folder}/{name}", timeout=10).status_code == 403
    assert starts(server) == [OWNER]
    assert "lasts 1.0 s" in generate(page, portrait, speech), "one allowance for both"


def test_a_batch_reads_no_file_that_was_not_uploaded(public, portrait, tmp_path) -> None:
    page = public()
    forged = [file_data(portrait)]
    said = press(page, ("batch-check", "click"), {"backend": CLOUD, "batch-files": forged}, VISITOR)
    assert not re.findall(r'"[\w-]{22}"', said)
    assert not list(tmp_path.glob("data/batches/*"))


def test_who_is_behind_a_proxy_is_believed_of_trusted_ones_only(
    public, server, portrait, speech
) -> None:
    page = public(share_key=True, visitor_limit=1.5)
    assert "Enough" in generate(page, portrait, speech, VISITOR)
    # A visitor may write into the header what he likes: what the proxy adds comes last.
    assert "lasts 1.0 s" in generate(page, portrait, speech, f"{OTHER}, {VISITOR}")
    distrusting = public(share_key=True, visitor_limit=1.5, trusted_proxies="192.0.2.1")
    assert "Enough" in generate(distrusting, portrait, speech, VISITOR)
    assert "lasts 1.0 s" in generate(distrusting, portrait, speech, OTHER)


def test_what_was_surely_not_started_does_not_count(speech) -> None:
    allowance = Allowance(1.5)
    with pytest.raises(ApiError), allowance.spend("a", speech):
        raise ApiError("Insufficient credits.", status=400)
    with pytest.raises(MaybeAcceptedError), allowance.spend("a", speech):
        raise MaybeAcceptedError("No answer.")
    with pytest.raises(InputError), allowance.spend("a", speech):
        pass


def test_a_day_later_there_is_something_to_spend_again(speech) -> None:
    now = [0.0]
    allowance = Allowance(1.5, clock=lambda: now[0])
    with allowance.spend("a", speech):
        pass
    now[0] = DAY - 1
    with pytest.raises(InputError), allowance.spend("a", speech):
        pass
    now[0] = DAY + 1
    with allowance.spend("a", speech):
        pass


@pytest.mark.parametrize(
    ("host", "visitor"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
        (None, ""),
    ],
)
def test_who_counts_as_one_visitor(host: str | None, visitor: str) -> None:
    assert visitor_of(host) == visitor


def test_on_a_space_its_own_network_is_trusted(monkeypatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert Settings().trusted_proxies == "127.0.0.1,::1"
    monkeypatch.setenv("SPACE_ID", "someone/lipsync")
    assert Settings().trusted_proxies == "127.0.0.1,::1,10.0.0.0/8"

"""Whatever comes from outside, every reader of it answers or refuses; none falls over."""

import contextlib
import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from kolbo_demo import contract
from kolbo_demo.client import InputError, retry
from kolbo_demo.engine.prompt import PromptStyle
from kolbo_demo.ip_policy import is_local_name, parse_address
from kolbo_demo.media import sniff
from kolbo_demo.service import fetch
from kolbo_demo.service.app import LocalService
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.gate import visitor_of
from kolbo_demo.settings import Settings
from kolbo_demo.ui.i18n.texts import language_of, languages
from kolbo_demo.ui.inputs import request_of
from kolbo_demo.ui.panels import views
from tests.hostile import INSIDE

thoroughly = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
over_http = settings(thoroughly, max_examples=60)

text = st.text(max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
links = st.one_of(
    text,
    st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "file", "ftp", ""]),
        st.sampled_from(["", "a:b@", "@", "[", "[::", "127.1", "0x7f", "xn--"]),
        text,
        st.sampled_from(["", ":80", ":99999", ":-1", "/..", "?#", "%00", "]"]),
    ),
)
form = "multipart/form-data"
kinds = st.sampled_from(
    ["application/json", form, f"{form}; boundary=x", f"{form}; boundary={'y' * 300}", "text/a", ""]
)
names = st.sampled_from(["image", "audio", "video", "prompt", "bounding_box_target", "x", '"', ""])
filenames = st.none() | st.sampled_from(
    ["../../etc/passwd", "/etc/passwd", "C:\\\\a", "a\0b", "😀", ""]
)
header = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120)


@pytest.fixture(scope="module")
def post(live_service: LocalService) -> Callable[..., requests.Response]:
    """Sends to the service, and sees to what each answer owes."""
    session = requests.Session()
    session.trust_env = False
    session.headers["X-API-Key"] = live_service.api_key.get_secret_value()

    def send(path: str, method: str = "POST", **more: object) -> requests.Response:
        url = f"{live_service.base_url}{path}"
        answer = session.request(method, url, timeout=30, **more)  # type: ignore[arg-type]
        assert answer.status_code < 500, answer.text
        ours = "/api/" in answer.url and "%0A" not in answer.url  # paths that lead out of it
        if answer.status_code >= 400 and ours:
            contract.ErrorReply.model_validate(answer.json())
        assert not INSIDE.search(answer.text), answer.text
        return answer

    return send


@over_http
@given(
    body=st.binary(max_size=2000),
    kind=kinds | header,
)
def test_any_body(post, body: bytes, kind: str) -> None:
    post("/v1/generate/lipsync", data=body, headers={"Content-Type": kind.strip()})


@over_http
@given(
    st.lists(
        st.tuples(
            names,
            filenames,
            st.binary(max_size=300),
            st.sampled_from(["\r\n", "\n", "", "\r\nX-Odd: 1\r\n"]),
        ),
        max_size=5,
    ),
    st.sampled_from(["--x--\r\n", "--x", "", "--x--"]),
)
def test_any_form(post, parts: list, end: str) -> None:
    body = b""
    for name, filename, data, line in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{named}{line}\r\n'
        body += head.encode() + data + b"\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    post("/v1/generate/lipsync", data=body + end.encode(), headers=kind)


@over_http
@given(st.dictionaries(st.sampled_from([*contract.LipsyncRequest.model_fields, "x"]), values))
def test_any_json(post, fields: dict) -> None:
    kind = {"Content-Type": "application/json"}
    post("/v1/generate/lipsync", data=json.dumps(fields), headers=kind)


@over_http
@given(header, header, st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS"]))
@example("bytes=0-", "../../jobs.sqlite", "GET")
def test_any_path_and_header(post, told: str, name: str, method: str) -> None:
    odd = {"Range": told.strip(), "Accept": told.strip(), "X-Forwarded-For": told.strip()}
    quoted = requests.utils.quote(name, safe="/%")  # type: ignore[attr-defined]
    for path in (f"/v1/results/{quoted}", f"/v1/generate/{quoted}/status", f"/{quoted}"):
        if method == "HEAD":
            continue  # it has no body to judge
        post(path, method, headers=odd)


@thoroughly
@given(links)
@example("http://[")
def test_any_link(link: str) -> None:
    with contextlib.suppress(JobError):
        fetch.check(link, "source", fetch.Policy())
    assert contract.url_kind(link) in ("image", "video")
    with contextlib.suppress(InputError):
        request_of(None, None, link, None, link, None, None, None, None)


@thoroughly
@given(text)
def test_any_host(host: str) -> None:
    parse_address(host)
    is_local_name(host)
    assert isinstance(visitor_of(host), str)


@thoroughly
@given(values)
def test_any_answer_of_an_api(document: object) -> None:
    for model in (contract.Status, contract.StartReply, contract.ModelList, contract.CreditsReply,
                  contract.CancelReply, contract.LipsyncRequest):  # fmt: skip
        with contextlib.suppress(ValidationError):
            found = model.model_validate(document)
            found.model_dump_json()


@thoroughly
@given(st.dictionaries(st.sampled_from(["Retry-After", "Date"]), text | st.integers().map(str)))
@example({"Retry-After": "9" * 400})
@example({"Retry-After": "Mon, 01 Jan 0001 00:00:00 GMT"})
@example({"Retry-After": "nan"})
def test_any_retry_after(headers: dict[str, str]) -> None:
    seconds = retry.parse_retry_after(headers)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@thoroughly
@given(text)
def test_any_prompt(prompt: str) -> None:
    for clip in (False, True):
        assert isinstance(PromptStyle.parse(prompt, clip=clip).summary, str)


@thoroughly
@given(st.binary(max_size=5000))
def test_any_first_bytes(tmp_path_factory, data: bytes) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    assert sniff.kind_of(path) in (None, "image", "video", "audio")


@thoroughly
@given(text)
def test_any_setting(value: str) -> None:
    assert all(host.strip() for host in Settings(fetch_allow_hosts=value).fetch_allow_hosts)  # type: ignore[arg-type]


@thoroughly
@given(header, header, header)
def test_any_wish_for_a_language(accepted: str, cookie: str, query: str) -> None:
    scope = {
        "type": "http",
        "headers": [(b"accept-language", accepted.encode()), (b"cookie", cookie.encode())],
        "query_string": b"lang=" + query.encode(),
    }
    assert language_of(HTTPConnection(scope)) in languages()


class Tags(HTMLParser):
    """What a browser would make of some HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert all(not name.startswith("on") for name, _ in attrs)
        assert not any((value or "").lower().startswith("javascript:") for _, value in attrs)


OURS = {"table", "caption", "tbody", "tr", "th", "td", "a", "code", "details", "summary", "pre"}
markup = (
    st.sampled_from(["<img src=x onerror=a>", "\"'><script>", "</pre><b>", "javascript:a"]) | text
)


@thoroughly
@given(st.dictionaries(markup, markup | values, max_size=5), markup, markup)
@example({}, "", "http://[")
def test_any_result_is_shown_as_text(more: dict, word: str, link: str) -> None:
    known = {"state": word or "completed", "result": {"urls": [link], "prompt_used": word, **more}}
    with contextlib.suppress(ValidationError):
        tags = Tags()
        tags.feed(views.details(contract.Status.model_validate({**more, **known}), link=True))
        assert tags.seen <= OURS

"""Events of a page, sent over HTTP as its browser sends them."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import requests


def config_of(url: str) -> dict[str, Any]:
    """The page's layout and events."""
    return requests.get(f"{url}/config", timeout=10).json()


def event_of(config: Mapping[str, Any], part: str, kind: str | None = None) -> dict[str, Any]:
    """The first event of a part, named by its id, that reaches Python."""
    ids = {each["props"].get("elem_id"): each["id"] for each in config["components"]}
    return next(
        event
        for event in config["dependencies"]
        if event["backend_fn"]
        and any(
            target == ids[part] and (kind is None or name == kind)
            for target, name in event["targets"]
        )
    )


def join(
    url: str,
    event: object,
    data: object,
    event_data: object = None,
    session: object = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[str, requests.Response]:
    """Sends an event by its number; the session, a new one unless it is given, and the answer."""
    session = session or secrets.token_hex(8)
    body = {
        "data": data,
        "event_data": event_data,
        "fn_index": event,
        "session_hash": session,
    }
    joined = f"{url}/gradio_api/queue/join"
    return str(session), requests.post(joined, json=body, headers=headers, timeout=60)


def events(url: str, session: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    """The stream of a session's events."""
    return requests.get(
        f"{url}/gradio_api/queue/data",
        params={"session_hash": session},
        headers=headers,
        stream=True,
        timeout=60,
    )


def heard(
    url: str, session: str, headers: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """The messages of a session's event, to the one that it is completed. Raises AssertionError
    where the stream ends before."""
    with events(url, session, headers) as answer:
        for line in answer.iter_lines():
            if not line:
                continue
            message = json.loads(line.removeprefix(b"data: "))
            yield message
            if message.get("msg") == "process_completed":
                return
    raise AssertionError("no answer")


def outcome(url: str, session: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The last message of `heard`."""
    return list(heard(url, session, headers))[-1]

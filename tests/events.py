"""Events of a page, sent over HTTP as its browser sends them."""

import json
import secrets
from collections.abc import Generator, Iterator, Mapping
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


class Browser:
    """A browser's values of one page's components, and its events."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.config = config_of(url)
        self.values = {part["id"]: part["props"].get("value") for part in self.config["components"]}
        self.session: str | None = None

    def part(self, name: str) -> int:
        """Number of a component by its id in the page."""
        return next(
            part["id"]
            for part in self.config["components"]
            if part["props"].get("elem_id") == name or part["type"] == name
        )

    def give(self, **values: Any) -> None:
        for name, value in values.items():
            self.values[self.part(name.replace("_", "-"))] = value

    def send(self, target: str, kind: str, event_data: Any = None) -> Generator[dict[int, Any]]:
        """Sends an event. Yields the updates of each message by component, as the page shows
        them."""
        yield from self._send(event_of(self.config, target, kind), event_data)

    def load(self, entries: list[dict[str, Any]]) -> Generator[dict[int, Any]]:
        """Loads the page in a browser that has stored these generations. Yields as `send`."""
        self.values[self.part("browserstate")] = entries
        loads = (
            event
            for event in self.config["dependencies"]
            if event["types"]["generator"] and any(kind == "load" for _, kind in event["targets"])
        )
        yield from self._send(next(loads))

    def _send(self, event: Mapping[str, Any], event_data: Any = None) -> Generator[dict[int, Any]]:
        data = [self.values.get(number) for number in event["inputs"]]
        self.session, answer = join(self.url, event["id"], data, event_data, session=self.session)
        answer.raise_for_status()
        for message in heard(self.url, self.session):
            if message["msg"] in {"process_generating", "process_completed"}:
                assert message["success"], message
                yield dict(zip(event["outputs"], message["output"]["data"], strict=True))

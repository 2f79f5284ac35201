"""Texts of the page, in the visitor's language.

The texts lie in `languages/`, one file a language. A visitor's language is the one that the page's
address asks for (`?lang=fr`), else the one chosen before (a cookie), else the first of the
browser's that there is.

`say` is for what Python tells at run time; `shown` for what stands on the page from the start and
is translated in the browser by `gr.I18n`.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData
from starlette.requests import HTTPConnection

FALLBACK = "en"
RIGHT_TO_LEFT = frozenset({"ar", "he"})
COOKIE = "kolbo-language"
GRADIO_NAMES = {"zh": "zh-CN"}
"""Where Gradio's own translations have another name than our file."""

_FOLDER = Path(__file__).parent / "languages"
_forced: ContextVar[str | None] = ContextVar("forced", default=None)
_shown: dict[str, Callable[[], str]] = {}


@cache
def languages() -> dict[str, dict[str, str]]:
    """Language code to texts by `section.name`, English first and wherever a text is missing."""
    files = sorted(_FOLDER.glob("*.toml"), key=lambda file: (file.stem != FALLBACK, file.stem))
    read = {file.stem: written(file) for file in files}
    return {code: read[FALLBACK] | found for code, found in read.items()}


def written(file: Path) -> dict[str, str]:
    """Texts of one file, by `section.name`."""
    return dict(_flat(tomllib.loads(file.read_text("utf-8"))))


def _flat(table: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, str(value)


def say(key: str, **values: object) -> str:
    """The text in the language of the visitor whose event is being answered, `{values}` filled in;
    plain text, not HTML. English where no event is. Raises KeyError for a key that is nowhere.

    A thread that a handler starts is told the visitor by `contextvars.copy_context().run`.
    """
    return languages()[language()][key].format(**values)


def enumeration(things: Sequence[str]) -> str:
    """`a, b and c`, as the language has it."""
    *others, last = things
    if not others:
        return last
    first, *rest = others
    for thing in rest:
        first = say("list.more", first=first, rest=thing)
    return say("list.two", first=first, last=last)


def shown(text: str | Callable[[], str]) -> I18nData:
    """For a component's label, value, placeholder or info: a key, or a function that makes HTML
    out of what it `say`s and is asked once for each language. While the page is built only."""
    key = f"kolbo.{len(_shown) if callable(text) else text}"
    _shown[key] = text if callable(text) else lambda: say(text)
    return I18nData(key)


def i18n() -> gr.I18n:
    """All that is `shown`, for Gradio."""
    found = {}
    for code in languages():
        with speaking(code):
            found[GRADIO_NAMES.get(code, code)] = {key: text() for key, text in _shown.items()}
    return gr.I18n(**found)


def language() -> str:
    """Code of the language that `say` speaks now."""
    if forced := _forced.get():
        return forced
    event = LocalContext.request.get(None)
    return language_of(event.request) if event and event.request else FALLBACK


def language_of(request: HTTPConnection) -> str:
    """Code of the language of whoever sent it."""
    ranked = []
    for part in request.headers.get("accept-language", "").split(","):
        tag, _, quality = part.partition(";q=")
        try:
            ranked.append((-float(quality or 1), tag))
        except ValueError:
            continue
    ranked.sort(key=lambda entry: entry[0])
    tags = [request.query_params.get("lang"), request.cookies.get(COOKIE)]
    for tag in [*tags, *(tag for _, tag in ranked)]:
        code = (tag or "").strip().lower().partition("-")[0]
        if code in languages():
            return code
    return FALLBACK


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """`say` speaks this language inside."""
    before = _forced.set(code)
    try:
        yield
    finally:
        _forced.reset(before)

"""docs/client.md documents every public name of `kolbo_demo.client`."""

import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from kolbo_demo import client
from kolbo_demo.client import GenerationError, KolboClient, KolboError, errors
from kolbo_demo.contract import API_PREFIX
from kolbo_demo.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
PUBLIC = {name: getattr(client, name) for name in client.__all__}
ERRORS = {name: item for name, item in PUBLIC.items() if issubclass(item, KolboError)}


def public_members(cls: type) -> set[str]:
    """Methods, properties, fields and attributes that are set by the constructor."""
    names = {name for name, _ in inspect.getmembers(cls) if name in vars(cls)}
    if is_dataclass(cls):
        names |= {field.name for field in fields(cls)}
    else:
        names |= set(re.findall(r"^ +self\.(\w+)\b(?:: [^=]+)? = ", inspect.getsource(cls), re.M))
    return {name for name in names if not name.startswith("_")}


def tree(text: str) -> dict[str, str | None]:
    """A drawn tree as parents by child."""
    parents, path = {}, []
    for line in re.findall(r"^ *([|` -]*\w+Error)\b", text, re.MULTILINE):
        name = line.lstrip("|` -")
        depth = (len(line) - len(name)) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else None
    return parents


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - ERRORS.keys()))
def test_each_class_has_a_section_with_its_members(name: str) -> None:
    missing = {
        member
        for member in public_members(PUBLIC[name])
        if not re.search(rf"`(?:\w+\.)?{member}\b[`(]", SECTIONS[name])
    }
    assert not missing


def test_every_error_is_exported() -> None:
    defined = {name for name, _ in inspect.getmembers(errors, inspect.isclass) if "Error" in name}
    assert ERRORS.keys() == defined


def test_the_trees_of_errors_are_the_classes() -> None:
    parents = {
        name: error.__bases__[0].__name__ if error is not KolboError else None
        for name, error in ERRORS.items()
    }
    drawing = SECTIONS["Errors"].split("```")[1]
    assert tree(drawing) == parents
    assert tree((errors.__doc__ or "").split("\n\n")[1]) == parents


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_each_error_has_a_row_that_says_when_it_is_raised(name: str) -> None:
    [row] = re.findall(rf"^\| `{name}` \|(.+)\|(.*)\|$", SECTIONS["Errors"], re.MULTILINE)
    assert len(row[0].split()) > 3
    for attribute in public_members(ERRORS[name]):
        assert f"`{attribute}`" in row[1]


@pytest.mark.parametrize("name", ["Retry", "Timeouts"])
def test_documented_defaults_are_those_of_the_code(name: str) -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", SECTIONS[name], re.MULTILINE))
    defaults = {field.name: field.default for field in fields(PUBLIC[name])}
    assert {field: float(value) for field, value in documented.items()} == defaults


def test_documented_signatures_are_those_of_the_code() -> None:
    for cls in (KolboClient, client.Generation):
        documented = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", SECTIONS[cls.__name__], re.M))
        for name, arguments in documented.items():
            parameters = list(inspect.signature(getattr(cls, name)).parameters)[1:]
            assert re.findall(r"(?:^|, )(?:\*, )?(\w+)", arguments) == parameters, name


def test_the_default_api_is_documented() -> None:
    assert Settings.model_fields["api_url"].default in SECTIONS["KolboClient"]
    assert API_PREFIX not in SECTIONS["KolboClient"]  # part of the paths, not of the base
    assert issubclass(GenerationError, KolboError)

"""Converts dataclasses to JSON documents and back, by their type hints.

Unknown keys are ignored and absent ones have the field's default, so that two releases read each
other's documents. Without pydantic, which a render does not load.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Value = TypeVar("Value")
Leaf = Callable[[Any], Any]

_KEY = "key"


def stored_as(key: str) -> dict[str, str]:
    """Metadata of a dataclass field whose key in documents is not its name."""
    return {_KEY: key}


def encode(value: Any, leaf: Leaf = lambda value: value) -> Any:
    """The document of a value: a dataclass, number, string, fraction, path, None, or a list, tuple
    or string-keyed dictionary of these. `leaf` encodes anything else."""
    if is_dataclass(value):
        return {key: encode(getattr(value, name), leaf) for key, name, _ in _schema(type(value))}
    if isinstance(value, dict):
        return {name: encode(item, leaf) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item, leaf) for item in value]
    return str(value) if isinstance(value, Fraction | Path) else leaf(value)


def decode(kind: type[Value], document: Any, leaf: Leaf = lambda value: value) -> Value:
    """The value of a document by `encode`. `leaf` decodes what its `leaf` encoded.

    Raises TypeError, ValueError or AttributeError if the document is not of this kind.
    """

    def convert(hint: Any, value: Any) -> Any:
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):  # of a type and None
            return None if value is None else convert(inner[0], value)
        if origin is tuple and inner[-1] is not Ellipsis:
            return tuple(convert(one, part) for one, part in zip(inner, value, strict=True))
        if origin in (list, tuple, Sequence):
            return (tuple if origin is tuple else list)(convert(inner[0], part) for part in value)
        if origin is dict:
            return {name: convert(inner[1], part) for name, part in value.items()}
        if isinstance(hint, type) and is_dataclass(hint):
            known = [each for each in _schema(hint) if each[0] in value]
            return hint(**{name: convert(inner, value[key]) for key, name, inner in known})
        if hasattr(hint, "_fields"):  # a NamedTuple
            return hint(*value)
        return hint(value) if hint in (Fraction, Path) else leaf(value)

    return convert(kind, document)


@cache
def _schema(kind: type) -> tuple[tuple[str, str, Any], ...]:
    """Key, name and type of each field."""
    hints = get_type_hints(kind)
    return tuple(
        (field.metadata.get(_KEY, field.name), field.name, hints[field.name])
        for field in fields(kind)
    )

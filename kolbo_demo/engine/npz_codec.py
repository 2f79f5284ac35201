"""Saves dataclasses to .npz files of arrays and JSON, without pickle: a file from another machine
cannot run code."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

Value = TypeVar("Value")

_TREE = "tree"
_ARRAY = "array"
_KEY = "key"


def stored_as(key: str) -> dict[str, str]:
    """Metadata of a dataclass field whose key in files is not its name."""
    return {_KEY: key}


def save(path: Path, value: object) -> None:
    """Write a dataclass to an .npz file.

    Fields are arrays, numbers, strings, fractions, None, dataclasses, and lists, tuples or
    string-keyed dictionaries of these.
    """
    arrays: dict[str, Any] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {_ARRAY: str(len(arrays) - 1)}
        if is_dataclass(value):
            return {
                field.metadata.get(_KEY, field.name): encode(getattr(value, field.name))
                for field in fields(value)
            }
        if isinstance(value, dict):
            return {name: encode(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [encode(item) for item in value]
        return str(value) if isinstance(value, Fraction) else value

    tree = json.dumps(encode(value))
    with path.open("wb") as file:
        np.savez(file, **{_TREE: np.array(tree)}, **arrays)


def load(path: Path, kind: type[Value]) -> Value:
    """Read a dataclass of class `kind` that `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}

    def decode(hint: Any, value: Any) -> Any:
        if isinstance(value, dict) and _ARRAY in value:
            return arrays[value[_ARRAY]]
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return None if value is None else decode(inner[0], value)
        if origin is tuple and inner[-1] is not Ellipsis:
            return tuple(decode(one, part) for one, part in zip(inner, value, strict=True))
        if origin in (list, tuple, Sequence):
            return (tuple if origin is tuple else list)(decode(inner[0], part) for part in value)
        if origin is dict:
            return {name: decode(inner[1], part) for name, part in value.items()}
        if isinstance(value, dict):
            hints = get_type_hints(hint)
            names = {field.metadata.get(_KEY, field.name): field.name for field in fields(hint)}
            return hint(
                **{names[key]: decode(hints[names[key]], part) for key, part in value.items()}
            )
        return Fraction(value) if hint is Fraction else value

    return decode(kind, json.loads(str(arrays[_TREE])))

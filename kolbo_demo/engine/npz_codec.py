"""Dataclasses to one file and back: numbers, text and arrays, no code, so that a file from another
machine can do nothing but be read."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

Stored = TypeVar("Stored")

_TREE = "tree"
_ARRAY = "array"


def save(path: Path, value: object) -> None:
    """Write a dataclass to an .npz file. Its fields, and those of dataclasses in them, are arrays,
    numbers, text, fractions, None, and lists, tuples or dictionaries by text of such."""
    arrays: dict[str, Any] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {_ARRAY: str(len(arrays) - 1)}
        if is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Fraction) else value

    tree = json.dumps(plain(value))
    with path.open("wb") as file:
        np.savez(file, **{_TREE: np.array(tree)}, **arrays)


def load(path: Path, kind: type[Stored]) -> Stored:
    """Read what `save` wrote of a dataclass of that kind."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}

    def made(hint: Any, value: Any) -> Any:
        if isinstance(value, dict) and _ARRAY in value:
            return arrays[value[_ARRAY]]
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return None if value is None else made(inner[0], value)
        if origin is tuple and inner[-1] is not Ellipsis:
            return tuple(made(one, part) for one, part in zip(inner, value, strict=True))
        if origin in (list, tuple, Sequence):
            return (tuple if origin is tuple else list)(made(inner[0], part) for part in value)
        if origin is dict:
            return {name: made(inner[1], part) for name, part in value.items()}
        if isinstance(value, dict):
            hints = get_type_hints(hint)
            return hint(**{name: made(hints[name], part) for name, part in value.items()})
        return Fraction(value) if hint is Fraction else value

    return made(kind, json.loads(str(arrays[_TREE])))

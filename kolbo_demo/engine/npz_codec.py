"""Saves dataclasses to .npz files of arrays and JSON, without pickle: a file from another machine
cannot run code."""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kolbo_demo.json_codec import decode, encode

Value = TypeVar("Value")

_TREE = "tree"
_ARRAY = "array"


def save(path: Path, value: object) -> None:
    """Write a dataclass of arrays and of what `json_codec.encode` takes to an .npz file."""
    arrays: dict[str, Any] = {}

    def store_array(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {_ARRAY: str(len(arrays) - 1)}
        return value

    tree = json.dumps(encode(value, store_array))
    with path.open("wb") as file:
        np.savez(file, **{_TREE: np.array(tree)}, **arrays)


def load(path: Path, kind: type[Value]) -> Value:
    """Read a dataclass of class `kind` that `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}

    def load_array(value: Any) -> Any:
        return arrays[value[_ARRAY]] if isinstance(value, dict) else value

    return decode(kind, json.loads(str(arrays[_TREE])), load_array)

"""Limits on the size and depth of JSON, checked before it is parsed.

A megabyte of `{}` becomes hundreds of megabytes of Python objects. The check counts structural
characters in a few linear passes of C code, some milliseconds a megabyte.
"""

MAX_ITEMS = 50_000
MAX_DEPTH = 32
_FOLD = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"{}[]"))


def check_json(data: bytes, *, items: int = MAX_ITEMS, depth: int = MAX_DEPTH) -> None:
    """Raise ValueError if `data` has more than `items` values, is nested deeper than `depth`, or
    cannot be JSON in UTF-8. Data that passes may still be invalid JSON."""
    if b"\0" in data:  # UTF-16 or UTF-32
        raise ValueError("The JSON must be in UTF-8.")
    # Pairs of backslashes first, so that a remaining one before a quote escapes it.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Each value is a container or follows a comma; in an object each has a key.
    if bare.count(b'"') > 4 * items:
        raise _too_many(items)
    parts = bare.split(b'"')
    if len(parts) % 2 == 0:
        raise ValueError("The JSON has a string without an end.")
    outside = b"".join(parts[::2])
    if 1 + sum(map(outside.count, (b",", b"[", b"{"))) > items:
        raise _too_many(items)
    brackets = outside.translate(_FOLD, _NO_BRACKET)
    if brackets.count(b"[") != brackets.count(b"]"):
        raise ValueError("The JSON has a bracket without its pair.")
    for _ in range(depth):  # each pass removes the innermost pairs
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise ValueError(f"The JSON is nested deeper than {depth} levels; send a flatter one.")


def _too_many(items: int) -> ValueError:
    return ValueError(f"The JSON has more than {items} values; send fewer.")

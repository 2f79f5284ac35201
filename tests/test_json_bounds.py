"""JSON that is cheap to send and costly to parse is refused by a linear scan."""

import contextlib
import json
import time
import tracemalloc

import pytest

from kolbo_demo.json_bounds import check_json

MEGABYTE = 1024 * 1024
TIMES = MEGABYTE // 2


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"7",
        b"null",
        b'""',
        b"[" * 32 + b"]" * 32,
        b'{"a": [1, {"b": "]]]]"}], "c": "\\"[[[[\\\\"}',
        json.dumps({"text": "[{" * 1000, 'k"': "\\" * 99}).encode(),
        json.dumps(list(range(50_000 - 1))).encode(),
        json.dumps("א\\" * 1000, ensure_ascii=False).encode(),
        b'"' + b"\\n" * (TIMES - 1) + b'"',
    ],
    ids=range(10),
)
def test_ordinary_json_passes(data: bytes):
    json.loads(data)
    check_json(data)


HOSTILE = {
    "objects": b"[" + b"{}," * (MEGABYTE // 3) + b"{}]",
    "bare objects": b"{}" * TIMES,
    "numbers": b"[" + b"0," * TIMES + b"0]",
    "empty strings": b"[" + b'"",' * (MEGABYTE // 3) + b'""]',
    "bare strings": b'""' * TIMES,
    "members": b"{" + b'"":0,' * (MEGABYTE // 5) + b'"":0}',
    "deep": b"[" * 33 + b"]" * 33,
    "deep objects": b'{"a":' * 33 + b"1" + b"}" * 33,
    "mixed depth": b'[{"a":' * 17 + b"1" + b"}]" * 17,
    "opened only": b"[" * MEGABYTE,
    "closed only": b"]" * MEGABYTE,
    "closed first": b"][",
    "depth after an escaped quote": b'["\\"", ' + b"[" * 33 + b"]" * 33 + b"]",
    "depth after an escaped backslash": b'["\\\\", ' + b"[" * 33 + b"]" * 33 + b"]",
    "string without an end": b'"' + b"a" * MEGABYTE,
    "escaped quotes without an end": b'"' + b'\\"' * TIMES,
    "backslashes without an end": b'"' + b"\\" * MEGABYTE,
    "UTF-16": json.dumps([[]] * 60_000).encode("utf-16"),
    # In UTF-16 the second byte of "∁" is that of a quote: a scan of bytes would lose its place.
    "UTF-16 with a quote's byte": ('["∁", ' + "[" * 40 + "]" * 40 + "]").encode("utf-16-le"),
    "UTF-32": json.dumps([1]).encode("utf-32"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_in_one_sentence(name: str):
    with pytest.raises(ValueError, match=r"^The JSON .*\.$"):
        check_json(HOSTILE[name])


def test_a_megabyte_costs_milliseconds_and_little_memory():
    worst = max(HOSTILE.values(), key=_seconds)
    # The pace of this machine: reading a megabyte of numbers with the standard library.
    begun = time.process_time()
    json.loads(HOSTILE["numbers"])
    pace = time.process_time() - begun
    assert _seconds(worst) < max(0.05, 5 * pace)
    for data in HOSTILE.values():
        tracemalloc.start()
        _seconds(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24 * MEGABYTE


def test_the_bounds_are_those_asked_for():
    check_json(b"[[1, 2]]", items=4, depth=2)
    with pytest.raises(ValueError, match="3 values"):
        check_json(b"[[1, 2]]", items=3, depth=2)
    with pytest.raises(ValueError, match="1 levels"):
        check_json(b"[[1, 2]]", items=4, depth=1)


def _seconds(data: bytes) -> float:
    begun = time.process_time()
    with contextlib.suppress(ValueError):
        check_json(data)
    return time.process_time() - begun

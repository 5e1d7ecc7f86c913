"""JSON text passes to jsonb unchanged only if decoding, checking and encoding would not change its value."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from db.errors import InvalidInput
from db.validation import JSON_DEPTH, JSON_VALUES, json_object
from ops.gharchive import stored_json
from ops.gharchive.stored_json import as_stored
from tests.cases import in_case

FAULTS = (InvalidInput, UnicodeDecodeError, msgspec.DecodeError)


def nested(levels: int, opening: str, closing: str) -> str:
    """Return an object with `levels` levels in all."""
    return '{"a":' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"


def result(check: Any, text: bytes) -> object:
    """Return the value that is stored, or the class of the error."""
    try:
        return json.loads(check("data", text))
    except FAULTS as error:
        return type(error)


def slowly(field: str, text: bytes) -> bytes:
    return msgspec.json.encode(json_object(field, msgspec.json.decode(text)))


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(['"', "\\", '\\"', "[{"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(derandomize=True, database=None)
@given(st.dictionaries(st.text(max_size=3), PLAIN), st.booleans())
@example({"a": "\0"}, True)
@example({"a": "\\u0000"}, True)
@example({"a": "\ud83d"}, True)
@example({"a": 10**17, "b": 10**19, "c": 1e300}, False)
@example({"a": '"}{"', "b": "\\"}, False)
def test_a_passed_text_is_stored_as_the_checked_value(value: dict[str, Any], is_ascii: bool) -> None:
    with suppress(UnicodeEncodeError):
        text = json.dumps(value, ensure_ascii=is_ascii).encode()
        with suppress(msgspec.DecodeError):
            # Invalid JSON is rejected before.
            msgspec.json.decode(text)
            assert result(as_stored, text) == result(slowly, text)


def test_what_cannot_be_stored_is_refused() -> None:
    cases: list[tuple[str, str | bytes]] = [
        ("NUL", '{"a":"\\u0000"}'),
        ("NUL in a key", '{"\\u0000":1}'),
        ("above bigint", '{"a":9223372036854775808}'),
        ("below bigint", '{"a":[-9223372036854775809]}'),
        ("exponent", '{"a":1e16}'),
        ("capital exponent", '{"a":[2E300]}'),
        ("large fraction", '{"a":12345678901234567.5}'),
        ("infinite", '{"a":1e999}'),
        ("nested arrays", nested(JSON_DEPTH + 1, "[", "]")),
        ("nested arrays and objects", nested(JSON_DEPTH // 2 + 2, '[{"b":', "}]")),
        ("nested, with brackets in strings", nested(JSON_DEPTH + 1, '{"b":"}","c":', ',"d":"{"}')),
        ("too many values", '{"a":[' + "0," * JSON_VALUES + "0]}"),
        ("too long", b'{"a":[' + b",".join([b'"%b"' % (b"x" * 2**20)] * 16) + b"]}"),
        ("not UTF-8", b'{"a":"\xff"}'),
        ("a surrogate in UTF-8", b'{"a":"\xed\xa0\x80"}'),
    ]
    for name, text in cases:
        with in_case(name):
            with pytest.raises(FAULTS):
                as_stored("data", text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "text",
    [
        nested(JSON_DEPTH, "[", "]"),
        nested(JSON_DEPTH, '{"b":"}","c":', ',"d":"{"}'),
        '{"a":[' + "{}," * 100 + "[]]}",
        '{"sha":"1e55555555555555555555555555","n":[1,-2,1420124400,true,false,null]}',
        '{"a":"say \\"1e5\\" \\\\","b":"\\u00e9\\n","c":"é"}',
    ],
)
def test_usual_text_is_not_decoded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_json, "_decode", pytest.fail)
    assert as_stored("data", text.encode()) == text.encode()


def test_numbers_are_stored_as_python_reads_them() -> None:
    assert as_stored("data", b'{"a":1.10,"b":0.1234567890123456789}') == b'{"a":1.1,"b":0.12345678901234568}'

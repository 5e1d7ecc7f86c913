"""Parsing of GitHub Archive lines. The events are made up, in its format."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.gharchive.event import Event, Party, Rejected, parse_event
from tests.cases import in_case

MADE_UP: dict[str, Any] = {
    "id": "2489651045",
    "type": "PushEvent",
    "actor": {"id": 665991, "login": "made-up", "gravatar_id": "", "url": "https://example.org/u"},
    "repo": {"id": 28688495, "name": "made-up/things", "url": "https://example.org/r"},
    "payload": {"size": 1, "commits": [{"message": 'it\'s "made" up'}]},
    "public": True,
    "created_at": "2015-01-01T15:00:00Z",
    "org": {"id": 7, "login": "made-up-org"},
    "a_field_of_tomorrow": [1, None],
}


def _line(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in (MADE_UP | changes).items() if value is not ...}).encode()


def test_every_known_field_is_mapped_and_others_are_kept() -> None:
    event = parse_event(_line())
    assert json.loads(event.data) == {
        "payload": MADE_UP["payload"],
        "public": True,
        "a_field_of_tomorrow": [1, None],
        "actor": {"gravatar_id": "", "url": "https://example.org/u"},
        "repo": {"url": "https://example.org/r"},
    }
    assert event == Event(
        2489651045,
        "PushEvent",
        datetime(2015, 1, 1, 15, tzinfo=UTC),
        Party(665991, "made-up"),
        Party(28688495, "made-up/things"),
        Party(7, "made-up-org"),
        event.data,
    )


def test_an_unknown_type_or_a_missing_repo_is_accepted() -> None:
    event = parse_event(_line(type="EventOfTomorrow", repo=..., org=...))
    assert (event.type, event.repo, event.org) == ("EventOfTomorrow", None, None)


def test_an_event_that_cannot_be_stored_is_rejected_with_a_reason() -> None:
    cases: list[tuple[bytes, str]] = [
        (b"{", "invalid JSON: "),
        (b"\xff\xfe", "invalid JSON: "),
        (b"[1]", "not a JSON object"),
        (b'{"id": "1", "payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid JSON: "),
        (_line(payload=json.loads('{"a":' * 80 + "1" + "}" * 80)), "data: is nested deeper than"),
        (_line(id=...), "id: NoneType is not an integer"),
        (_line(id="x"), "id: str is not an integer"),
        (_line(id="9" * 19), "id: is out of range"),
        (_line(id=0), "id: is out of range"),
        (_line(type=""), "type: is empty"),
        (_line(type=7), "type: int is not text"),
        (_line(actor=...), "actor: is missing"),
        (_line(actor="x"), "actor: is not an object"),
        (_line(actor={"id": 1}), "actor.login: NoneType is not text"),
        (_line(repo={"id": True, "name": "x"}), "repo.id: bool is not an integer"),
        (_line(created_at=...), "created_at: is missing"),
        (_line(created_at="yesterday"), "created_at: 'yesterday' is not a timestamp"),
        (_line(created_at="2015-01-01T15:00:00"), "created_at: has no time zone"),
        (_line(created_at="9999-01-01T00:00:00Z"), "created_at: 9999-01 is out of range"),
        (_line(payload={"text": "a\0b"}), "data: contains a NUL character"),
        (_line(payload={"n": 2**70}), "data: is out of range"),
        (_line(payload={"text": "\ud800"}), ""),
        (_line(actor={"id": 1, "login": "a\0"}), "actor.login: contains a NUL character"),
        (
            _line(actor={"id": 1, "login": "a" * 2001}),
            "actor.login: has 2001 bytes; at most 2000 can be stored",
        ),
        (_line(type="a" * 2001), "type: has 2001 bytes; at most 2000 can be stored"),
    ]
    for line, reason in cases:
        with in_case(line, reason):
            with pytest.raises(Rejected, match=f"^{reason}".replace("[", r"\[")):
                parse_event(line)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*MADE_UP]), inner),
)


@given(st.binary(max_size=200) | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_parsed_or_rejected(line: bytes) -> None:
    with suppress(Rejected):
        parse_event(line)

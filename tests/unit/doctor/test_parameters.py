"""Comparison of parameter values: different spellings of one value are equal, other values are not."""

from __future__ import annotations

from ops.doctor.parameters import comparable
from tests.cases import in_case


def test_values_are_compared_by_meaning() -> None:
    cases: list[tuple[str, str, str | None, str, bool]] = [
        ("256MB", "32768", "8kB", "integer", True),
        ("256MB", "32767", "8kB", "integer", False),
        ("1310kB", "1310", "kB", "integer", True),
        ("1GB", "1024", "MB", "integer", True),
        ("5min", "300000", "ms", "integer", True),
        ("500ms", "500", "ms", "integer", True),
        ("60", "60", "s", "integer", True),
        ("0.9", "0.9", None, "real", True),
        ("1.1", "1.2", None, "real", False),
        ("-1", "-1", "kB", "integer", True),
        ("on", "on", None, "bool", True),
        ("true", "on", None, "bool", True),
        ("off", "on", None, "bool", False),
        ("DDL", "ddl", None, "enum", True),
        ("pglz", "on", None, "enum", False),
        ("UTC", "UTC", None, "string", True),
        ("%m ", "%m", None, "string", False),
    ]
    for written, live, unit, vartype, is_same in cases:
        with in_case(written, live, unit, vartype, is_same):
            assert (comparable(written, unit, vartype) == comparable(live, unit, vartype)) is is_same

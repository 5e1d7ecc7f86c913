"""The fields of a new entity, parsed from `name:type`, and what each type is in SQL and in Python."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from ops.errors import Exit, OpsError

NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
# Two names and an affix have at most 63 characters, the limit of Postgres. Generated lines have at most 120.
NAME_LENGTH = 28
# Reserved key words of Postgres 15: they cannot be the name of a column or a table without quotes.
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        "all analyse analyze and any array as asc asymmetric authorization binary both case cast check"
        " collate collation column concurrently constraint create cross current_catalog current_date"
        " current_role current_schema current_time current_timestamp current_user default deferrable desc"
        " distinct do else end except false fetch for foreign freeze from full grant group having ilike in"
        " initially inner intersect into is isnull join lateral leading left like limit localtime"
        " localtimestamp natural not notnull null offset on only or order outer overlaps placing primary"
        " references returning right select session_user similar some symmetric table tablesample then to"
        " trailing true union unique user using variadic verbose when where window with",
    )
)
# Columns that every table has, parameters of queries and methods, and types, which a field of that name would hide.
_TAKEN = {
    **dict.fromkeys(("id", "created_at", "updated_at", "row_version"), "every entity has this field"),
    **dict.fromkeys(
        (
            *("ids", "after_id", "after", "records", "record_id", "self", "stored", "idempotency_key"),
            *("changes", "checked_changes"),
        ),
        "generated methods or queries use this name",
    ),
    **dict.fromkeys(
        ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"),
        "it is a system column of every table in Postgres",
    ),
    **dict.fromkeys(
        ("int", "str", "bool", "float", "list", "dict", "date", "datetime"), "it is a type in Python"
    ),
}


# `sets_` begins the flags of an upsert. The generator of the sync code renames what begins with the others.
_PREFIXES = ("sets_", "async", "aclose")


@dataclass(frozen=True)
class Type:
    """A type of fields, in SQL and in Python.

    `takes` is its name in db/queries. `check` is the function of db.validation that checks a value. `samples` are two
    different values in Python, and `literal` is a value in SQL. `rule` is the condition of the column's CHECK.
    """

    sql: str
    python: str
    takes: str
    check: str
    samples: tuple[str, str]
    literal: str
    rule: str = ""


# A CHECK refuses values that Postgres can store but Python cannot, and values that are not equal to themselves (NaN).
TYPES = {
    "text": Type("text", "str", "str", "text", ('"one"', '"ünï 2"'), "'x'"),
    "int": Type("integer", "int", "int", "integer", ("7", "-(2**31)"), "1"),
    "bigint": Type("bigint", "int", "int", "bigint", ("8", "2**63 - 1"), "1"),
    "bool": Type("boolean", "bool", "bool", "boolean", ("True", "False"), "true"),
    "float": Type(
        "double precision", "float", "float", "real", ("0.1", "-1e300"), "0.5",
        "{0} NOT IN ('NaN', 'Infinity', '-Infinity')",
    ),
    "decimal": Type(
        "numeric", "Decimal", "Decimal", "decimal", ('Decimal("12.50")', 'Decimal("-0.000000000000000000001")'), "1.5",
        "{0} NOT IN ('NaN', 'Infinity', '-Infinity')",
    ),
    "date": Type(
        "date", "date", "date", "day", ("date(2026, 2, 28)", "date(1, 1, 1)"), "'2026-01-01'",
        "{0} BETWEEN '0001-01-01' AND '9999-12-31'",
    ),
    "datetime": Type(
        "timestamptz", "datetime", "datetime", "timestamp",
        ("datetime(2026, 2, 28, 12, 30, tzinfo=UTC)", "datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)"),
        "'2026-01-01 00:00+00'", "{0} >= '0001-01-01 00:00+00' AND {0} < '10000-01-01 00:00+00'",
    ),
    "uuid": Type("uuid", "UUID", "UUID", "uuid", ("UUID(int=1)", "UUID(int=2**128 - 1)"),
                 "'00000000-0000-0000-0000-000000000001'"),
    "text[]": Type(
        "text[]", "list[str]", "list[str]", "list_of(text)", ('["a", "b,\\"c"]', "[]"), "'{a,b}'",
        "array_position({0}, NULL) IS NULL",
    ),
    "int[]": Type(
        "integer[]", "list[int]", "list[int]", "list_of(integer)", ("[1, -2]", "[]"), "'{1,2}'",
        "array_position({0}, NULL) IS NULL",
    ),
    "json": Type(
        "jsonb", "dict[str, Any]", "dict", "jsonb", ('{"a": [1, {"b": None}]}', "{}"), "'{}'",
        "jsonb_typeof({0}) = 'object'",
    ),
}  # fmt: skip
_KEY_TYPES = ("text", "int", "bigint", "uuid")


@dataclass(frozen=True)
class Field:
    """A field. `values` are those of an enumeration. `reference` is the table that a reference refers to."""

    name: str
    kind: str
    type: Type
    is_nullable: bool = False
    values: tuple[str, ...] = ()
    reference: str = ""

    @property
    def takes(self) -> str:
        return f"{self.type.takes} | None" if self.is_nullable else self.type.takes

    @property
    def can_be_key(self) -> bool:
        return self.kind in _KEY_TYPES and not self.is_nullable


def refuse(message: str) -> OpsError:
    return OpsError(message, Exit.USAGE)


def checked_name(what: str, name: str) -> str:
    """Return a name that is valid in SQL and in Python. Raise OpsError (2) otherwise."""
    if not NAME.fullmatch(name):
        raise refuse(
            f"{what} {name!r} is not a valid name; use lower-case letters, digits and underscores, like team_member"
        )
    if len(name) > NAME_LENGTH:
        raise refuse(f"{what} {name!r} has {len(name)} characters; use at most {NAME_LENGTH}")
    if name.startswith(_PREFIXES):
        raise refuse(
            f"{what} {name!r} cannot be used: generated names begin with {' or '.join(_PREFIXES)}; choose another name"
        )
    if keyword.iskeyword(name) or name in _RESERVED:
        language = "Python" if keyword.iskeyword(name) else "SQL"
        raise refuse(f"{what} {name!r} is a reserved word of {language}; choose another name")
    return name


def parse_field(text: str, tables: frozenset[str]) -> Field:
    """Parse `name:type`, with `?` or `:null` at its end if the field may be null. References may be to `tables`."""
    name, colon, kind = text.partition(":")
    checked_name("field", name)
    if name in _TAKEN:
        raise refuse(f"field {name!r} cannot be used: {_TAKEN[name]}; choose another name")
    if not colon or not kind:
        raise refuse(f"field {text!r} has no type; write it as {name}:text")
    is_nullable = kind.endswith(("?", ":null"))
    kind = kind.removesuffix("?").removesuffix(":null")
    if match := re.fullmatch(r"enum\((.*)\)", kind):
        return _enumeration(name, match[1], is_nullable)
    if kind.startswith("ref:"):
        table = kind.removeprefix("ref:")
        if table not in tables:
            raise refuse(
                f"field {name!r} refers to unknown table {table!r}; use one of {', '.join(sorted(tables))}"
            )
        type_ = Type(
            "bigint", "int", "int", "bigint", ("1", "1"), f"(SELECT min(id) FROM groundwork.{table})"
        )
        return Field(name, "ref", type_, is_nullable, reference=table)
    if kind not in TYPES:
        raise refuse(
            f"field {name!r} has unknown type {kind!r}; use one of {', '.join(TYPES)}, enum(a,b), ref:TABLE"
        )
    return Field(name, kind, TYPES[kind], is_nullable)


def _enumeration(name: str, text: str, is_nullable: bool) -> Field:
    values = tuple(value.strip() for value in text.split(","))
    for value in values:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,62}", value):
            raise refuse(
                f"field {name!r} has the value {value!r}; use letters, digits and `_.- ` in enum values, like open"
            )
    if len(set(values)) < len(values):
        raise refuse(f"field {name!r} has a value twice; name each value of an enum once")
    listed = ", ".join(f"'{value}'" for value in values)
    samples = (f'"{values[0]}"', f'"{values[-1]}"')
    type_ = Type("text", "", "str", "one_of", samples, f"'{values[0]}'", f"{{0}} IN ({listed})")
    return Field(name, "enum", type_, is_nullable, values)

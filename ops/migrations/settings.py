"""The settings of `groundwork migrate` outside of a stack: groundwork.toml, pyproject.toml and sqlx.toml.

They are read from the current folder, or from the nearest parent that has one of these files. All keys with their types
and values are in one table. Anything else is refused, and the message names the file and the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ops.errors import Exit, OpsError
from ops.migrations.text_file import read_text_file
from ops.number_range import MOST_SECONDS

if TYPE_CHECKING:
    from db.migrator.scaffold import Versioning

_OWN, _PROJECT, _SQLX = "groundwork.toml", "pyproject.toml", "sqlx.toml"
# Tables of sqlx.toml that do not concern migrations.
_OTHER_TABLES = {"macros", "drivers"}
_IDENTIFIER = re.compile(r'[A-Za-z_][A-Za-z0-9_$]*|"(?:[^"\0]|"")+"')
# In a search_path, the server replaces it by the role's name. Anywhere else it is the name of a schema.
_ROLES_SCHEMA = '"$user"'
_TABLE = re.compile(rf"(?:(?:{_IDENTIFIER.pattern})\.)?(?:{_IDENTIFIER.pattern})")
_QUOTED = re.compile(r'"[^"]*"')
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_T = TypeVar("_T")


class _Wrong(Exception):
    """A value is not what its key needs. The message says what is allowed."""


@dataclass(frozen=True)
class MigrateSettings:
    """The settings that the files give; the defaults for the others.

    `root` is the folder of the files; None if there are none. Names of tables and schemas are in SQL's spelling.
    """

    root: Path | None = None
    folder: Path | None = None
    url_variable: str = "DATABASE_URL"
    ledger: str | None = None
    schema: tuple[str, ...] = ()
    create_schemas: tuple[str, ...] = ()
    ignored_chars: str = ""
    ignore_missing: bool = False
    versioning: Versioning = "inferred"
    is_reversible: bool = True
    wait: float | None = None
    lock_timeout: float | None = None
    attempts: int | None = None
    lint: Mapping[str, bool] = field(default_factory=dict)

    @property
    def session(self) -> dict[str, str]:
        """The search_path and the ledger of the migrator's sessions, by the names of their settings."""
        # Imported late, because they load psycopg.
        from db.migrator.ledger import TABLE
        from db.migrator.url import DEFAULT_PATH, LEDGER, LOGIN_PATH, SEARCH_PATH

        found = {SEARCH_PATH: ", ".join(self.schema)} if self.schema else {}
        if self.schema and "." not in re.sub(_QUOTED, "", self.ledger or ""):
            # Without a schema in its name, the ledger could be another program's in a later schema of the search_path.
            found[LEDGER] = f"{self.schema[0]}.{self.ledger or TABLE}"
            # sqlx-cli does not read the key `schema`, so its ledger may be another one.
            found[DEFAULT_PATH] = LOGIN_PATH
        elif self.ledger is not None:
            found[LEDGER] = self.ledger
        return found

    def rules_off(self) -> set[str]:
        """Return the lint rules that are switched off."""
        return {rule for rule, is_on in self.lint.items() if not is_on}


def find_settings(start: Path) -> MigrateSettings:
    """Return the settings of the nearest folder with a file of settings, from `start` upwards.

    A key of groundwork.toml or pyproject.toml has priority over the same key of sqlx.toml. Raises OpsError (2) for an
    invalid file, and if groundwork.toml and pyproject.toml both have settings.
    """
    for folder in (start, *start.parents):
        own, sqlx = _own_table(folder), _table(folder / _SQLX)
        if own is None and sqlx is None:
            continue
        settings = MigrateSettings(root=folder)
        if sqlx is not None:
            settings = _with_sqlx(settings, folder / _SQLX, sqlx)
        if own is not None:
            path, content, prefix = own
            settings = _with(settings, path, prefix, content, _OWN_KEYS)
        return settings
    return MigrateSettings()


def _own_table(folder: Path) -> tuple[Path, Mapping[str, Any], str] | None:
    """Return groundwork's table of migrations with its file and its name."""
    own, project = _table(folder / _OWN), _table(folder / _PROJECT)
    ours = None if project is None else project.get("tool", {}).get("groundwork")
    if own is not None and ours is not None:
        raise OpsError(
            f"{folder / _OWN} and [tool.groundwork] of {folder / _PROJECT} both have settings; keep one of them",
            Exit.USAGE,
        )
    if own is not None:
        return folder / _OWN, _only(own, folder / _OWN, "", "migrate"), "migrate"
    if ours is not None:
        content = _only(
            _as_table(folder / _PROJECT, "tool.groundwork", ours),
            folder / _PROJECT,
            "tool.groundwork.",
            "migrate",
        )
        return folder / _PROJECT, content, "tool.groundwork.migrate"
    return None


def _with_sqlx(settings: MigrateSettings, path: Path, content: Mapping[str, Any]) -> MigrateSettings:
    _refuse_unknown(path, "", content, {"common", "migrate", *_OTHER_TABLES})
    for name, keys in (("common", _SQLX_COMMON), ("migrate", _SQLX_MIGRATE)):
        settings = _with(settings, path, name, _as_table(path, name, content.get(name, {})), keys)
    return settings


@dataclass(frozen=True)
class _Key:
    """The field of MigrateSettings that a key sets, and the function that checks and converts its value."""

    attribute: str
    read: Callable[[Any], Any]


def _with(
    settings: MigrateSettings,
    path: Path,
    table: str,
    content: Mapping[str, Any],
    keys: Mapping[str, _Key | Mapping[str, _Key]],
) -> MigrateSettings:
    """Return the settings with the values of one table, which has no other keys."""
    _refuse_unknown(path, f"{table}.", content, keys)
    for name, value in content.items():
        key, full = keys[name], f"{table}.{name}"
        if isinstance(key, Mapping):
            settings = _with(settings, path, full, _as_table(path, full, value), key)
            continue
        try:
            read = key.read(value)
        except _Wrong as error:
            raise OpsError(f"{path}: {full} is {value!r}; it must be {error}", Exit.USAGE) from None
        if key.attribute == "folder":
            read = path.parent / read
        settings = replace(settings, **{key.attribute: read})
    return settings


def _table(path: Path) -> Mapping[str, Any] | None:
    if (text := read_text_file(path)) is None:
        return None
    # Imported late, because most runs have no such file.
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OpsError(f"{path} is not valid TOML: {error}; correct it", Exit.USAGE) from error


def _as_table(path: Path, name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise OpsError(f"{path}: {name} is {value!r}; it must be a table", Exit.USAGE)
    return value


def _only(content: Mapping[str, Any], path: Path, prefix: str, name: str) -> Mapping[str, Any]:
    _refuse_unknown(path, prefix, content, {name})
    return _as_table(path, f"{prefix}{name}", content.get(name, {}))


def _refuse_unknown(path: Path, prefix: str, content: Mapping[str, Any], known: Any) -> None:
    if unknown := sorted(set(content) - set(known)):
        raise OpsError(
            f"{path}: unknown key {prefix}{unknown[0]}; the keys are {', '.join(sorted(known))}", Exit.USAGE
        )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _Wrong("a string that is not empty")
    return value


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _Wrong(what)
        return value

    return read


def _list_of(each: Callable[[object], str], what: str) -> Callable[[object], tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise _Wrong(what)
        try:
            return tuple(map(each, value))
        except _Wrong:
            raise _Wrong(what) from None

    return read


def _schemas(value: object) -> tuple[str, ...]:
    found = _SCHEMAS(value)
    if _ROLES_SCHEMA in found:
        raise _Wrong(_OWN_NAME)
    return found


def _search_path(value: object) -> tuple[str, ...]:
    found = _schemas([value] if isinstance(value, str) else value)
    if not found:
        raise _Wrong("the name of a schema, or a list of names")
    return found


def _ledger(value: object) -> str:
    found = _LEDGER(value)
    if found.startswith(f"{_ROLES_SCHEMA}."):
        raise _Wrong(_OWN_NAME)
    return found


def _char(value: object) -> str:
    if not isinstance(value, str) or len(value) != 1:
        raise _Wrong("one character")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _choice(*values: _T) -> Callable[[object], _T]:
    def read(value: object) -> _T:
        for each in values:
            if value == each:
                return each
        raise _Wrong(f"one of {', '.join(map(str, values))}")

    return read


def _seconds(least: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        # True is an int too.
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not least <= value <= MOST_SECONDS
        ):
            raise _Wrong(f"a number of seconds from {least:g} to {MOST_SECONDS}")
        return value

    return read


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Wrong("a whole number, 1 or more")
    return value


def _rules(value: object) -> Mapping[str, bool]:
    if not isinstance(value, Mapping) or not all(isinstance(each, bool) for each in value.values()):
        raise _Wrong("a table of rules, each with true or false")
    # Imported late, because it loads psycopg.
    from db.migrator.lint import RULES

    if set(value) - set(RULES):
        raise _Wrong(f"a table of these rules, each with true or false: {', '.join(sorted(RULES))}")
    return value


_NAME = _matching(_IDENTIFIER, 'an SQL name, such as app or "App"')
_SCHEMAS = _list_of(_NAME, 'a list of SQL names, such as ["app"]')
_OWN_NAME = f"the schema's own name, such as app; {_ROLES_SCHEMA} would be a different schema for each role"
_LEDGER = _matching(_TABLE, "a table's SQL name, with or without its schema, such as app._sqlx_migrations")
_VARIABLE_NAME = _matching(_VARIABLE, "the name of an environment variable")
_CHARS = _list_of(_char, "a list of single characters")
_VERSIONING = _choice("inferred", "timestamp", "sequential")

_OWN_KEYS: Mapping[str, _Key | Mapping[str, _Key]] = {
    "folder": _Key("folder", _text),
    "url-variable": _Key("url_variable", _VARIABLE_NAME),
    "ledger": _Key("ledger", _ledger),
    "schema": _Key("schema", _search_path),
    "create-schemas": _Key("create_schemas", _schemas),
    "ignored-chars": _Key("ignored_chars", lambda value: "".join(_CHARS(value))),
    "ignore-missing": _Key("ignore_missing", _flag),
    "versioning": _Key("versioning", _VERSIONING),
    "reversible": _Key("is_reversible", _flag),
    "wait": _Key("wait", _seconds(0)),
    "lock-timeout": _Key("lock_timeout", _seconds(0.001)),
    "attempts": _Key("attempts", _attempts),
    "lint": _Key("lint", _rules),
}
# sqlx-core 0.9, src/config.
_SQLX_COMMON = {"database-url-var": _Key("url_variable", _VARIABLE_NAME)}
_SQLX_MIGRATE: Mapping[str, _Key | Mapping[str, _Key]] = {
    "create-schemas": _Key("create_schemas", _schemas),
    "table-name": _Key("ledger", _ledger),
    "migrations-dir": _Key("folder", _text),
    "ignored-chars": _OWN_KEYS["ignored-chars"],
    "defaults": {
        # For "inferred", sqlx looks at the newest file. groundwork always creates a down file then.
        "migration-type": _Key(
            "is_reversible", lambda value: _choice("inferred", "simple", "reversible")(value) != "simple"
        ),
        "migration-versioning": _Key("versioning", _VERSIONING),
    },
}

"""Declarations of settings: dataclass fields with a description, and the targets on which they have an effect.

Keys, Pulumi's types and the documentation's tables are derived from the declarations. This module does not validate
values.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.spec.checkout import PROJECT
from infra.spec.errors import SettingError

DOCKER, AWS = TARGETS = ("docker", "aws")
_TYPES = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "dict[str, str]": "object",
}


@dataclass(frozen=True)
class Setting:
    """One declared setting. `key` has no `groundwork:` prefix, and `type` is Pulumi's name of the type.

    `targets` are the targets on which it has an effect.
    """

    field: str
    key: str
    type: str
    default: Any
    description: str
    targets: tuple[str, ...]


def setting(default: Any, description: str, *, only: str | None = None) -> Any:
    """Declare a field of a settings dataclass. `only` is the single target on which it has an effect."""
    metadata = {"description": description, "targets": (only,) if only else TARGETS}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def declared(settings: Any) -> list[Setting]:
    """Return every setting of a settings dataclass, in order. The instance provides the defaults."""
    return [
        Setting(
            field=f.name,
            key=camel(f.name),
            type=_TYPES[str(f.type)],
            default=getattr(settings, f.name),
            description=f.metadata["description"],
            targets=f.metadata["targets"],
        )
        for f in dataclasses.fields(settings)
    ]


def camel(name: str) -> str:
    """Return the key of a field: redis_maxmemory -> redisMaxmemory."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def full(key: str) -> str:
    """Return a key as written in a stack's file, with the project's prefix."""
    return f"{PROJECT}:{key}"


def suggestion(key: str, known: Mapping[str, Setting]) -> str:
    """Return the fix for an unknown key."""
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {full(close[0])}?" if close else "see docs/settings.md"


def coerce(setting: Setting, value: Any) -> Any:
    """Convert a value to the setting's type. Pulumi passes integers, booleans and objects as JSON text."""
    if setting.type == "string":
        if isinstance(value, str):
            return value
        raise SettingError(full(setting.key), f"{value!r} is not a string", "put it in quotes")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    kinds: dict[str, type[Any]] = {"integer": int, "boolean": bool, "object": dict}
    kind = kinds[setting.type]
    # In Python a bool is an int, but true is not a valid integer setting.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        article = {
            "integer": "a whole number",
            "boolean": "true or false",
            "object": "a mapping",
        }
        raise SettingError(
            full(setting.key),
            f"{value!r} is not {article[setting.type]}",
            f"its default is {json.dumps(setting.default)}",
        )
    if setting.type == "object":
        return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in value.items()}
    return value

"""How a setting is declared: a dataclass's field with a description, and the targets it has an effect on.

Keys, Pulumi's types and the tables people read follow from the declarations. Nothing is validated here.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.spec.errors import SettingError
from infra.spec.world import PROJECT

DOCKER, AWS = TARGETS = ("docker", "aws")
_TYPES = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "dict[str, str]": "object",
}


@dataclass(frozen=True)
class Setting:
    """How one setting is declared: its key without the project, Pulumi's name of its type, and what it says.

    `targets` are those on which it has an effect.
    """

    field: str
    key: str
    type: str
    default: Any
    description: str
    targets: tuple[str, ...]


def setting(default: Any, description: str, *, only: str | None = None) -> Any:
    """A field of a settings dataclass; `only` names the one target it has an effect on."""
    metadata = {"description": description, "targets": (only,) if only else TARGETS}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def declared(settings: Any) -> list[Setting]:
    """Every setting of an instance of a settings dataclass that holds the defaults, in order."""
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
    """A field's key: redis_maxmemory -> redisMaxmemory."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def full(key: str) -> str:
    """A key as it stands in a stack's file."""
    return f"{PROJECT}:{key}"


def suggestion(key: str, known: Mapping[str, Setting]) -> str:
    """What to do about a key that is not known."""
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {full(close[0])}?" if close else "see the settings table in the README"


def coerce(setting: Setting, value: Any) -> Any:
    """The value in the setting's type. Pulumi hands integers, booleans and objects over as JSON text."""
    if setting.type == "string":
        if isinstance(value, str):
            return value
        raise SettingError(full(setting.key), f"{value!r} is no text", "put it in quotes")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    kinds: dict[str, type[Any]] = {"integer": int, "boolean": bool, "object": dict}
    kind = kinds[setting.type]
    # bool is an int to Python, and never what was meant here.
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

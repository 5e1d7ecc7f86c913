"""Property values in Pulumi's JSON, which may be known, unknown before `up`, or secret. Values are never printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final


class _Unknown(Enum):
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


# The placeholder for values that cannot be read: not known before `up`, or secret.
UNKNOWN: Final = _Unknown.UNKNOWN

# The texts that the engine and its SDKs write for unknown values, one for each kind of value.
SENTINELS = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # text, and what `preview --json` writes for all kinds
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # a boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # a number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # a list
        "030794c1-ac77-496b-92df-f27374a8bd58",  # an asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # an archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # an object
    }
)
_SHOWN_OUTPUT = re.compile(r"output<.*>", re.IGNORECASE | re.DOTALL)
SHOWN_SECRET = "[secret]"
# The key that marks a mapping as a wrapper, and the marks of the wrappers whose content is secret or unknown.
SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
_OUTPUT_SIGNATURE = "d0e6a833031e9bbcd3f4e8bde6ca49a4"


def read_value(value: Any) -> Any:
    """Return a value of Pulumi's JSON with UNKNOWN in place of every unknown or secret part."""
    if isinstance(value, str):
        hidden = value in SENTINELS or value == SHOWN_SECRET or _SHOWN_OUTPUT.fullmatch(value)
        return UNKNOWN if hidden else value
    if isinstance(value, list):
        return [read_value(item) for item in value]
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) in (_SECRET_SIGNATURE, _OUTPUT_SIGNATURE):
            return UNKNOWN
        return {key: read_value(item) for key, item in value.items()}
    return value


def holds_unknown(value: Any) -> bool:
    """Return whether any part of a value is UNKNOWN."""
    if isinstance(value, list):
        return any(holds_unknown(item) for item in value)
    if isinstance(value, Mapping):
        return any(holds_unknown(item) for item in value.values())
    return value is UNKNOWN


def as_bool(value: Any) -> Any:
    """Convert the texts `true` and `false` to booleans. Other values are returned unchanged."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def as_number(value: Any) -> Any:
    """Convert a number in a text. Other values are returned unchanged."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Which values of a preview may be shown: those that are plainly none of a secret. Everything else has no value here.

Pulumi blinds what it knows to be secret; a password that somebody forgot to mark is caught by its name or its looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SECRET = "[secret]"
HIDDEN = "[not shown]"
UNKNOWN = "[known after up]"

# Pulumi's mark of an object that is a value with an attribute, and what stands in it for a secret.
_MARK = "4dabf18193072939515e22adb298388d"
_UNKNOWN_TEXTS = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # a string
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # a boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # a number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # a list
        "030794c1-ac77-496b-92df-f27374a8bd58",  # an asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # an archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # an object
    }
)
_SECRET_NAME = re.compile(
    r"pass(word|phrase|wd)|pwd|secret|token|credential|private|auth|cipher|salt|verifier|cert|pem$|cookie|session"
    r"|signature|dsn|ur[il]s?$|connectionstring|key(?!s?id$|arn$)|^env|userdata|hash$"
)
# Names that only sound like one, and are worth reading.
_HARMLESS = frozenset(
    {"enablekeyrotation", "managemasteruserpassword", "iamdatabaseauthenticationenabled", "cacertidentifier"}
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}")
# As long as a key or a token, and made of both letters and digits without a gap.
_OPAQUE = re.compile(r"(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{16,}")


def looks_secret(name: str) -> bool:
    """Whether a property of this name may hold what nobody is to read."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain not in _HARMLESS and _SECRET_NAME.search(plain) is not None


def holds_secret(value: Any) -> bool:
    """Whether a secret stands anywhere in a value, as Pulumi marks one."""
    if isinstance(value, str):
        return SECRET in value
    if isinstance(value, Mapping):
        return _MARK in value or any(holds_secret(each) for each in value.values())
    if isinstance(value, Sequence):
        return any(holds_secret(each) for each in value)
    return False


def shown(value: Any) -> str:
    """A value as it may be read, of a property that is no secret by its name."""
    if value is None:
        return "(none)"
    if holds_secret(value):
        return SECRET
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return f"[{len(value)} properties]"
    return f"[{len(value)} items]" if isinstance(value, Sequence) else HIDDEN


def _text(value: str) -> str:
    if value in _UNKNOWN_TEXTS:
        return UNKNOWN
    if not value:
        return '""'
    if _PLAIN.fullmatch(value) and not _OPAQUE.search(value):
        return value
    return HIDDEN

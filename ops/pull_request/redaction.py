"""Decide which values of a preview may be shown: only those that are clearly not secret.

Pulumi hides values that are marked as secret. Unmarked ones, such as a password, are detected by name or format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from infra.policy.value import SENTINELS, SHOWN_SECRET, SIGNATURE

# Pulumi's placeholder.
SECRET = SHOWN_SECRET
HIDDEN = "[not shown]"
UNKNOWN = "[known after up]"

_SECRET_NAME = re.compile(
    r"pass(word|phrase|wd)|pwd|secret|token|credential|private|auth|cipher|salt|verifier|cert|pem$|cookie|session"
    r"|signature|dsn|ur[il]s?$|connectionstring|key(?!s?id$|arn$)|^env|userdata|hash$"
)
# Names that match the pattern but are harmless.
_HARMLESS = frozenset(
    {"enablekeyrotation", "managemasteruserpassword", "iamdatabaseauthenticationenabled", "cacertidentifier"}
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}")
# A run of at least 16 characters with letters and digits, like a key or a token.
_OPAQUE = re.compile(r"(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{16,}")
# A name has few words for its length, and a random text has many. A number at the end, as in ec2, does not count.
_PIECE = re.compile(r"[A-Za-z0-9]+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+(?![0-9]|$)")
_MIXED = re.compile(r"(?=.*[a-z])(?=.*[A-Z]).*[0-9]")
_MIXED_LENGTH = 20
_CHARACTERS_PER_BREAK = 6


def looks_secret(name: str) -> bool:
    """Return whether a property with this name may contain a secret."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain not in _HARMLESS and _SECRET_NAME.search(plain) is not None


def holds_secret(value: Any) -> bool:
    """Return whether a value contains Pulumi's mark of a secret anywhere."""
    if isinstance(value, str):
        return SECRET in value
    if isinstance(value, Mapping):
        return SIGNATURE in value or any(holds_secret(each) for each in value.values())
    if isinstance(value, Sequence):
        return any(holds_secret(each) for each in value)
    return False


def shown(value: Any) -> str:
    """Return the text to show for a value of a property without a secret name."""
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
    if value in SENTINELS:
        return UNKNOWN
    if not value:
        return '""'
    if _PLAIN.fullmatch(value) and not _OPAQUE.search(value) and not _is_divided_secret(value):
        return value
    return HIDDEN


def _is_divided_secret(value: str) -> bool:
    """Return whether a value would look random without its separators, like an AWS secret key with slashes."""
    pieces = _PIECE.findall(value)
    length = sum(map(len, pieces))
    breaks = sum(max(len(_WORD.findall(piece)) - 1, 0) for piece in pieces)
    is_mixed = _MIXED.match(value) is not None
    return is_mixed and length >= _MIXED_LENGTH and breaks * _CHARACTERS_PER_BREAK >= length

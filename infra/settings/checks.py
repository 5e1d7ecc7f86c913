"""Checks that all kinds of settings share. Each raises SettingError with the key, the problem and the fix."""

from __future__ import annotations

import difflib
import ipaddress
import re

from infra.settings.declaration import full
from infra.spec.errors import SettingError
from infra.spec.quantity import parse_bytes

# The private addresses of RFC 1918, and those for benchmarks. `is_private` would also accept 127.0.0.0/8.
PRIVATE_NETWORKS = tuple(
    map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"))
)


def require_one_of(key: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        close = difflib.get_close_matches(value, accepted, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingError(
            full(key),
            f"{value!r} is not a valid value",
            f"{hint}use one of {', '.join(accepted)}".strip(),
        )


def require_range(key: str, value: int, least: int, most: int, more: str = "") -> None:
    if not least <= value <= most:
        fix = f"use {least} to {most}" + (f", {more}" if more else "")
        raise SettingError(full(key), f"{value} is out of range", fix)


def require_match(key: str, value: str, pattern: str, what: str, example: str) -> None:
    """Check a text against a pattern. `what` names the kind of text in the message, `example` is a valid one."""
    if not re.fullmatch(pattern, value):
        raise SettingError(full(key), f"{value!r} is not a valid {what}", f"write it like {example}")


def require_bytes(key: str, text: str, least: str) -> int:
    """Return the amount in bytes. Raises SettingError for other text, and for less than `least`."""
    try:
        amount = parse_bytes(text)
    except ValueError as error:
        raise SettingError(full(key), str(error), "write it like 128MB or 1GB") from error
    if amount < parse_bytes(least):
        raise SettingError(full(key), f"{text} is too little", f"use {least} or more")
    return amount


def require_network(key: str, text: str, example: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise SettingError(full(key), f"{error}", f"write an IPv4 subnet like {example}") from error

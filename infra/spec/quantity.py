"""Amounts of memory as people write them: `512MB`, `1GB`; and as Postgres, Redis and Docker read them."""

from __future__ import annotations

import re

_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_PATTERN = re.compile(r"^\s*([0-9]+)\s*(B|KB|MB|GB)\s*$", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes of an amount like `512MB` (units of 1024). ValueError says what is accepted."""
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory")
    return int(match[1]) * _UNITS[match[2].upper()]


def format_mb(amount: int) -> str:
    """`134217728` -> `128MB`: whole mebibytes, rounded down, as Postgres and Redis both read it."""
    return f"{amount // _UNITS['MB']}MB"

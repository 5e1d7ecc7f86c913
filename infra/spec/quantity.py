"""Parse and format amounts of memory such as `512MB` and `1GB`, in the form that Postgres, Redis and Docker accept."""

from __future__ import annotations

import re

_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_PATTERN = re.compile(r"^\s*([0-9]+)\s*(B|KB|MB|GB)\s*$", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Return the bytes of an amount such as `512MB`, in units of 1024. Raises ValueError for other text."""
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_gib(text: str) -> int:
    """Return the whole GiB of an amount such as `20GB`, as RDS counts storage. Raises ValueError for other text."""
    return parse_bytes(text) // _UNITS["GB"]


def format_mb(amount: int) -> str:
    """Format bytes as whole mebibytes, rounded down: `134217728` -> `128MB`. Postgres and Redis accept this form."""
    return f"{amount // _UNITS['MB']}MB"

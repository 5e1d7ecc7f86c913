"""Values of Postgres's parameters, as people write them and as pg_settings holds them, made comparable."""

from __future__ import annotations

import re

# In bytes and in microseconds.
_FACTORS = {
    "B": 1,
    "kB": 1024,
    "MB": 1024**2,
    "GB": 1024**3,
    "TB": 1024**4,
    "us": 1,
    "ms": 1000,
    "s": 10**6,
    "min": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
}
_AMOUNT = re.compile(r"\s*(-?[0-9.]+)\s*([A-Za-z]*)\s*")
_TRUE, _FALSE = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


def comparable(value: str, unit: str | None, vartype: str) -> object:
    """`value` of a parameter whose pg_settings.unit and vartype are these, the same for all its spellings.

    `256MB` of a parameter in 8kB is what `32768` is; text that is no amount is compared as it stands.
    """
    if vartype == "bool":
        lowered = value.lower()
        return True if lowered in _TRUE else False if lowered in _FALSE else lowered
    if vartype in ("integer", "real") and (amount := _AMOUNT.fullmatch(value)):
        return float(amount[1]) * _factor(amount[2] or unit)
    return value.lower() if vartype == "enum" else value


def _factor(unit: str | None) -> float:
    """How many bytes or microseconds a unit has; `8kB` is one. 1 where there is none."""
    if not unit:
        return 1
    amount = _AMOUNT.fullmatch(unit)
    if amount is not None:
        return float(amount[1]) * _FACTORS.get(amount[2], 1)
    return _FACTORS.get(unit, 1)

"""Make values of Postgres parameters comparable, whether from the settings or from pg_settings."""

from __future__ import annotations

import re

# Bytes and microseconds per unit.
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
    """Normalize a parameter's value, given its pg_settings.unit and vartype, so that all spellings are equal.

    `256MB` equals `32768` for a parameter in units of 8kB. Text that is not an amount is compared unchanged.
    """
    if vartype == "bool":
        lowered = value.lower()
        return True if lowered in _TRUE else False if lowered in _FALSE else lowered
    if vartype in ("integer", "real") and (amount := _AMOUNT.fullmatch(value)):
        return float(amount[1]) * _factor(amount[2] or unit)
    return value.lower() if vartype == "enum" else value


def _factor(unit: str | None) -> float:
    """Return the bytes or microseconds per unit, e.g. of `8kB`; 1 without a unit."""
    if not unit:
        return 1
    amount = _AMOUNT.fullmatch(unit)
    if amount is not None:
        return float(amount[1]) * _FACTORS.get(amount[2], 1)
    return _FACTORS.get(unit, 1)

"""Asks before something is done that cannot be taken back; and asks for the name where that looks like production.

Without a terminal nothing is asked: it is refused (exit 7) unless the options say it all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import click

from ops.errors import Exit, OpsError

_PRODUCTION = re.compile(r"(?<![a-z])(prod|prd|production|live)(?![a-z])", re.IGNORECASE)


def production_name(names: Iterable[str]) -> str | None:
    """The first of the names that looks like production's: prod, eu-production, live2."""
    return next((name for name in names if _PRODUCTION.search(name)), None)


def require_consent(what: str, *, yes: bool, confirmed: str | None, names: Iterable[str]) -> None:
    """Return if `what` ("forget ...") may be done. OpsError (7) where it may not; click.Abort for a no.

    `names` are those of what it is done to. Where one looks like production, `--yes` does not do without
    `--confirm` and that name.
    """
    name = production_name(names)
    if name is not None:
        _require_name(what, name, yes, confirmed)
    elif not yes:
        if not sys.stdin.isatty():
            raise OpsError(f"without a terminal, to {what} takes --yes", Exit.REFUSED)
        click.confirm(f"{what[0].upper()}{what[1:]}?", abort=True, err=True)


def _require_name(what: str, name: str, yes: bool, confirmed: str | None) -> None:
    if confirmed is None and sys.stdin.isatty():
        click.echo(f"This will {what}, and {name!r} looks like production.", err=True)
        confirmed, yes = click.prompt(f"Type {name} to go on", err=True), True
    if not yes or confirmed != name:
        given = "" if confirmed is None else f", and not {confirmed!r}"
        raise OpsError(
            f"{name!r} looks like production: to {what} takes --yes --confirm {name}{given}", Exit.REFUSED
        )

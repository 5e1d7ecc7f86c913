"""Ask for consent to an irreversible action. For a name that looks like production, the user has to type the name.

Without a terminal, the action is refused (exit code 7) unless the options give full consent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import click

from ops.errors import Exit, OpsError
from ops.output import print_line

_PRODUCTION = re.compile(r"(?<![a-z])(prod|prd|production|live)(?![a-z])", re.IGNORECASE)


def production_name(names: Iterable[str]) -> str | None:
    """Return the first name that looks like production: prod, eu-production, live2."""
    return next((name for name in names if _PRODUCTION.search(name)), None)


def ask(question: str, *, yes: bool, refusal: str) -> None:
    """Return if `yes`, or if the user answers yes. Raise OpsError (7) for a no, and click.Abort for Ctrl-C.

    Without a terminal, raise OpsError (7) with the text `refusal`.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise OpsError(refusal, Exit.REFUSED)
    if not click.confirm(question, err=True):
        raise OpsError("not confirmed; nothing was changed", Exit.REFUSED)


def require_consent(what: str, *, yes: bool, confirmed: str | None, names: Iterable[str]) -> None:
    """Return if the user consents to `what` ("invalidate ..."). Raise OpsError (7) if not.

    `names` are names of the affected object. If one of them looks like production, --yes alone is not enough:
    --confirm with that name is needed too.
    """
    name = production_name(names)
    if name is not None:
        _require_name(what, name, yes, confirmed)
    else:
        refusal = f"cannot {what} without confirmation; without a terminal, pass --yes"
        ask(f"{what[0].upper()}{what[1:]}?", yes=yes, refusal=refusal)


def _require_name(what: str, name: str, yes: bool, confirmed: str | None) -> None:
    if confirmed is None and sys.stdin.isatty():
        print_line(f"This will {what}, and {name!r} looks like production.", err=True)
        confirmed, yes = click.prompt(f"Type {name} to continue", err=True), True
    if not yes or confirmed != name:
        given = "" if confirmed is None else f", not {confirmed!r}"
        raise OpsError(
            f"{name!r} looks like production: to {what}, pass --yes --confirm {name}{given}", Exit.REFUSED
        )

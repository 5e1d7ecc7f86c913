"""`groundwork rotate`: rotate passwords, certificates and their authority without downtime, and show their ages."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ops.commands.names import stack_option
from ops.number_range import IntegerRange, seconds
from ops.output import print_json, print_line, print_lines

if TYPE_CHECKING:
    from ops.rotation.subject import RotatedStack

_stack = stack_option()
_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation")
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
_days = IntegerRange(0, 36_500)
_grace = click.option(
    "--grace",
    "grace_seconds",
    default=60.0,
    show_default=True,
    type=seconds(),
    metavar="SECONDS",
    help="How long clients have to switch to the new one",
)
_keep_old = click.option(
    "--keep-old", is_flag=True, help="Stop before the old one is revoked; the next run resumes"
)


@click.group()
def rotate() -> None:
    """Rotate passwords and certificates without downtime

    If a rotation fails or is killed, run the same command again to resume it.
    """


@rotate.command()
@click.argument("roles", nargs=-1, metavar="ROLE...")
@click.option("--all", "every", is_flag=True, help="Rotate every role")
@_grace
@_keep_old
@_stack
@_yes
@_json
def passwords(
    roles: tuple[str, ...],
    every: bool,
    grace_seconds: float,
    keep_old: bool,
    stack: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Give roles new passwords in Postgres and Redis

    The old passwords are revoked after --grace.
    """
    from infra.spec.rotation import REDIS_SERVER_ROLES, REPLACED_AT_ONCE, ROLES
    from ops.errors import Exit, OpsError
    from ops.rotation.logins import try_out
    from ops.rotation.passwords import known_roles, rotate_passwords

    if every == bool(roles):
        known = ", ".join((*ROLES, *REDIS_SERVER_ROLES))
        raise OpsError(f"pass either role names or --all; roles: {known}", Exit.USAGE)
    target = _target(stack)
    existing = target.roles()
    names = existing if every else known_roles(roles, existing)
    what = f"the passwords of {', '.join(names)} in stack {stack!r}"
    kept = [name for name in names if keep_old and name not in REPLACED_AT_ONCE]
    old = f"The old ones are revoked {grace_seconds:.0f} s after the new ones are in use."
    if kept:
        old = f"The old ones of {', '.join(kept)} stay accepted until you run the command without --keep-old."
    _confirm(f"Rotate {what}? {old}", what, yes)
    started = time.monotonic()
    with _running(target):
        done = rotate_passwords(
            target,
            names,
            grace_seconds=grace_seconds,
            keep_old=keep_old,
            try_out=lambda tried, is_void: try_out(target, tried, old_is_void=is_void),
            say=_say,
        )
        result = {"stack": stack, **done.as_json(target.wanted()), "seconds": _since(started)}
    if as_json:
        print_json(result)
        return
    old = "the old ones are revoked"
    if kept and not done.old_is_void:
        old = f"the old ones of {', '.join(kept)} are still accepted"
    print_line(f"{', '.join(names)}: new passwords are in use, {old} ({result['seconds']} s)")
    for login, count in done.ended.items():
        print_line(f"{login}: {count} sessions still used the old password and were terminated")
    if set(names) - set(REDIS_SERVER_ROLES):
        print_line(f"`groundwork env --stack {stack} --role ROLE` prints the new connection strings")


@rotate.command()
@click.option("--authority", is_flag=True, help="Also replace the certificate authority")
@click.option(
    "--days",
    type=_days,
    default=None,
    help="Renew only what expires within this many days; the authority and the servers are checked separately",
)
@_grace
@_keep_old
@_stack
@_yes
@_json
def certificates(
    authority: bool,
    days: int | None,
    grace_seconds: float,
    keep_old: bool,
    stack: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Renew the servers' certificates

    A new authority is distributed first, then used, and then the old one is removed. --grace and --keep-old only
    apply to the authority.
    """
    from ops.rotation.certificates import rotate_authority, rotate_certificates

    what = f"{'the authority and ' if authority else ''}the servers' certificates of stack {stack!r}"
    _confirm(f"Renew {what}?", what, yes)
    started = time.monotonic()
    target = _target(stack)
    with _running(target):
        if authority:
            done = rotate_authority(
                target, within_days=days, grace_seconds=grace_seconds, keep_old=keep_old, say=_say
            )
        else:
            done = rotate_certificates(target, within_days=days, say=_say)
    result = {"stack": stack, **done.as_json(), "seconds": _since(started)}
    if as_json:
        print_json(result)
        return
    print_line(f"renewed: {', '.join(done.renewed) or 'nothing'} ({result['seconds']} s)")
    if done.old_is_trusted:
        print_line(
            "the old authority is still trusted; to end that, run"
            f" `groundwork rotate certificates --authority --stack {stack}`"
        )
    for certificate in done.certificates:
        print_line(f"{certificate.name:<12} expires {certificate.ends_at:%Y-%m-%d}")


@rotate.command()
@click.option(
    "--max-age",
    type=_days,
    default=None,
    metavar="DAYS",
    help="Report older passwords as due",
)
@click.option(
    "--days",
    type=_days,
    default=30,
    show_default=True,
    help="Report what expires within this many days as due",
)
@_stack
@_json
def status(max_age: int | None, days: int, stack: str, as_json: bool) -> None:
    """Show ages of passwords and expiry of certificates

    Exits with 4 if the servers do not match the state, else with 3 if one is due or a rotation is in progress, else
    with 6 if Postgres does not answer.
    """
    from ops.errors import Exit
    from ops.rotation.report import report_on

    report = report_on(_target(stack), max_age_days=max_age, within_days=days)
    print_json(report.as_json()) if as_json else print_lines(report.as_lines())
    if report.mismatches:
        sys.exit(Exit.MISMATCH)
    if report.due:
        sys.exit(Exit.PENDING)
    if report.uncompared:
        sys.exit(Exit.UNREACHABLE)


@contextmanager
def _running(target: RotatedStack) -> Iterator[None]:
    """Check that the stack can be changed, and lock out other commands that change it in the block."""
    from ops.backup.workbench import refuse_during_restore
    from ops.stack.change_lock import changing
    from ops.stack.connections import describe_database
    from ops.toolchain.provision import ensure

    with changing(target.checkout, target.name, "rotate"):
        refuse_during_restore(target.checkout, target.name)
        target.check_running()
        print_line(f"database: {describe_database(target.name, 'postgres')}", err=True)
        ensure(target.checkout)
        # A rotation that `up` refuses to apply must not be recorded.
        target.pulumi.check_before_up()
        yield


def _target(stack: str) -> RotatedStack:
    """Return the stack with this name. Raise OpsError (7) if it is on AWS."""
    from infra.spec.checkout import Checkout
    from ops.rotation.subject import RotatedStack

    target = RotatedStack(Checkout.here(), stack)
    _refuse_on_aws(target)
    return target


def _refuse_on_aws(target: RotatedStack) -> None:
    """Raise OpsError (7) if the settings put the stack on AWS, where only `groundwork up` may change it."""
    from infra.settings import DOCKER
    from ops.errors import Exit, OpsError

    if target.pulumi.check_settings().target != DOCKER:
        raise OpsError(
            f"stack {target.name!r} is on AWS, where logins use IAM tokens and AWS renews certificates;"
            " there is nothing to rotate (docs/aws.md)",
            Exit.REFUSED,
        )


def _confirm(question: str, what: str, yes: bool) -> None:
    from ops.consent import ask

    pending = (
        "It also applies whatever else is pending: migrations, settings, images. See `groundwork preview`."
    )
    question = f"{question} {pending}"
    ask(question, yes=yes, refusal=f"cannot ask before rotating {what} without a terminal; pass --yes")


def _say(line: str) -> None:
    print_line(line, err=True)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)

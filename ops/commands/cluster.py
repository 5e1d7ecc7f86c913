"""`groundwork cluster`: the Postgres and Redis servers of a stack with replicas."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis_replication import SERVER_NAMES
from ops.commands.names import stack_option
from ops.output import print_json, print_line, print_lines

if TYPE_CHECKING:
    from infra.spec.checkout import Checkout

_MEMBERS = {"postgres": MEMBERS, "redis": SERVER_NAMES}
_stack = stack_option()
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")

_service = click.option(
    "--service",
    type=click.Choice(_MEMBERS),
    default="postgres",
    show_default=True,
    help="Service whose primary changes",
)
_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation")
_confirm = click.option("--confirm", metavar="NAME", help="Name of a production stack, to confirm with --yes")


@click.group()
def cluster() -> None:
    """Show the servers of a stack with replicas, and change their roles

    docs/high-availability.md describes such stacks.
    """


@cluster.command()
@click.option("--service", type=click.Choice(_MEMBERS), help="Show only these servers [default: all]")
@_stack
@_json
def status(service: str | None, stack: str, as_json: bool) -> None:
    """Show the role, state and lag of each server

    Exits with 6 if one is missing or does not stream.
    """
    from infra.spec.checkout import Checkout
    from ops.backup.workbench import refuse_during_restore
    from ops.errors import Exit, OpsError
    from ops.stack import cluster as postgres
    from ops.stack import redis_cluster as redis

    checkout = Checkout.here()
    has_redis = service == "redis" or (service is None and redis.has_replicas(checkout, stack))
    has_postgres = service == "postgres" or (service is None and postgres.has_replicas(checkout, stack))
    entries, lines, found = [], [], {}
    # Without replicas of either, the refusal names Postgres.
    if has_postgres or not has_redis:
        target = postgres.Cluster.of(checkout, stack)
        # Without it, the stopped servers would look like a failure.
        refuse_during_restore(checkout, stack)
        members = target.members()
        entries += [{"service": "postgres", **member.as_json()} for member in members]
        lines += postgres.render(members)
        found["Postgres"] = postgres.problems(members) + postgres.silent_api_problems(members)
    if has_redis:
        rows = redis.RedisCluster.of(checkout, stack).members()
        entries += [{"service": "redis", **row.as_json()} for row in rows]
        lines += [*([""] if lines else []), *redis.render(rows)]
        found["Redis"] = redis.problems(rows)
    print_json(entries) if as_json else print_lines(lines)
    if wrong := [f"{name} of stack {stack!r}: {'; '.join(each)}" for name, each in found.items() if each]:
        raise OpsError(
            f"{'; '.join(wrong)}; see why with `groundwork logs --stack {stack}`",
            Exit.UNREACHABLE,
        )


@cluster.command()
@_service
@_stack
@click.option(
    "--to",
    "to",
    metavar="MEMBER",
    help="New primary, like postgres-2 or redis-2 [default: a replica with all acknowledged writes]",
)
@_yes
@_confirm
@_json
def switchover(
    service: str, stack: str, to: str | None, yes: bool, confirm: str | None, as_json: bool
) -> None:
    """Move the primary to another server

    Writes to Postgres wait for some seconds, and no acknowledged write is lost. The data access does not use Redis for
    some seconds, and reads from Postgres meanwhile.
    """
    from infra.spec.checkout import Checkout
    from ops.consent import require_consent
    from ops.stack.cluster import Cluster
    from ops.stack.redis_cluster import RedisCluster

    _require_member(service, to)
    checkout = Checkout.here()
    target: Cluster | RedisCluster = (RedisCluster if service == "redis" else Cluster).of(checkout, stack)
    what = (
        f"move the {service} primary of stack {stack!r} to {to or 'a replica with all acknowledged writes'}"
    )
    with _changing(checkout, stack, "cluster switchover"):
        require_consent(what, yes=yes, confirmed=confirm, names=[stack])
        began = time.monotonic()
        with _moving(stack):
            old, new = target.switch_over(to, lambda line: print_line(line, err=True))
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"from": old, "to": new, "seconds": seconds})
    elif old == new:
        print_line(f"{new} is already the primary")
    else:
        print_line(f"moved the primary from {old} to {new} ({seconds} s)")


@cluster.command()
@_service
@_stack
@click.option(
    "--to",
    "to",
    metavar="MEMBER",
    help="New primary, like postgres-2 or redis-2 [default: the replica with the most data]",
)
@_yes
@_confirm
@_json
def failover(service: str, stack: str, to: str | None, yes: bool, confirm: str | None, as_json: bool) -> None:
    """Promote a replica when there is no primary

    Postgres: a synchronous replica is promoted automatically. Use this if only the other replica is left. It may lack
    the last acknowledged writes, which are then lost. Redis: a replica is promoted automatically while two Sentinels
    run. Use this if only one Sentinel is left.

    If writes may be lost, the command also flushes the cache, which may contain them.
    """
    from infra.spec.checkout import Checkout
    from ops.consent import require_consent
    from ops.errors import Exit, OpsError
    from ops.stack.cluster import SYNCHRONOUS, Cluster
    from ops.stack.redis_cluster import RedisCluster

    _require_member(service, to)
    checkout = Checkout.here()
    if service == "redis":
        redis = RedisCluster.of(checkout, stack)
        with _changing(checkout, stack, "cluster failover"):
            redis.require_no_primary()
            what = f"make {to or 'a replica'} the redis primary of stack {stack!r}"
            require_consent(what, yes=yes, confirmed=confirm, names=[stack])
            # A primary may have returned during the question.
            redis.require_no_primary()
            began = time.monotonic()
            with _moving(stack):
                promoted = redis.fail_over(to)
        seconds = round(time.monotonic() - began, 1)
        if as_json:
            print_json({"to": promoted, "mayLoseWrites": False, "seconds": seconds})
        else:
            print_line(f"{promoted} is the primary now ({seconds} s)")
        return
    target = Cluster.of(checkout, stack)
    with _changing(checkout, stack, "cluster failover"):
        new = target.successor(to)
        may_lose = new.role != SYNCHRONOUS
        loss = "the last acknowledged writes may be lost" if may_lose else "no acknowledged write is lost"
        what = f"make {new.name} the primary of stack {stack!r} ({loss})"
        require_consent(what, yes=yes, confirmed=confirm, names=[stack])
        # The servers may have changed during the question.
        if target.successor(new.name).role != new.role:
            raise OpsError(
                f"{new.name} of stack {stack!r} changed its role while you confirmed, so a different set of writes may"
                " be lost; nothing was changed; run the same command again",
                Exit.REFUSED,
            )
        began = time.monotonic()
        with _moving(stack):
            # Before the promotion, so that nothing can be read from the cache that the new primary does not have.
            flush = _flush_cache(stack) if may_lose else None
            target.fail_over(new)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"to": new.name, "mayLoseWrites": may_lose, "flush": flush, "seconds": seconds})
        return
    print_line(f"{new.name} is the primary now ({seconds} s); {loss}")
    if may_lose:
        print_line(f"lost writes may still be cached; run `{flush}`" if flush else "the cache was flushed")
    print_line(f"writes wait until a replica streams; `groundwork up --stack {stack}` starts stopped servers")


@cluster.command()
@_stack
@click.argument("member")
@_yes
@_confirm
@_json
def reinit(stack: str, member: str, yes: bool, confirm: str | None, as_json: bool) -> None:
    """Delete a replica's data, and copy the primary's

    Use this if a replica does not start or cannot follow the primary. The command refuses to delete the primary's
    data. If it was killed, run it again.
    """
    from infra.spec.checkout import Checkout
    from ops.consent import require_consent
    from ops.stack.cluster import Cluster

    _require_member("postgres", member)
    checkout = Checkout.here()
    target = Cluster.of(checkout, stack)
    with _changing(checkout, stack, "cluster reinit"):
        others = target.require_copyable(member)
        wait = "" if len(others) > 1 else "; every write waits until the copy is complete"
        what = f"delete the data of {member} of stack {stack!r} and copy the primary's{wait}"
        require_consent(what, yes=yes, confirmed=confirm, names=[stack])
        # It may have become the primary during the question.
        target.require_copyable(member)
        began = time.monotonic()
        target.copy_again(member, lambda line: print_line(line, err=True))
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"member": member, "seconds": seconds})
    else:
        print_line(f"{member} is a replica of the primary again ({seconds} s)")


@contextmanager
def _changing(checkout: Checkout, stack: str, command: str) -> Iterator[None]:
    """Lock out other commands that change the stack. Raise OpsError (5) for them, and during a restore."""
    from ops.backup.workbench import refuse_during_restore
    from ops.stack.change_lock import changing

    with changing(checkout, stack, command):
        refuse_during_restore(checkout, stack)
        yield


def _flush_cache(stack: str) -> str | None:
    """Flush the stack's cache. If that fails, say why, and return the command that flushes it later."""
    from infra.spec.errors import InfraError
    from ops.backup.post_restore import invalidate_namespaces
    from ops.cache.server import settings_of_stack
    from ops.errors import OpsError

    try:
        invalidate_namespaces(settings_of_stack(stack, "ops"))
    except (OpsError, InfraError) as error:
        print_line(f"cannot flush the cache: {error}", err=True)
        return f"groundwork cache flush --all --stack {stack}"
    return None


@contextmanager
def _moving(stack: str) -> Iterator[None]:
    """Give the right advice after an interrupt: the primary may have moved, and a second call would move it again."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort(
            f"the primary may have moved already; see `groundwork cluster status --stack {stack}`"
        ) from None


def _require_member(service: str, member: str | None) -> None:
    """Raise OpsError (2) for a name that no server of the service has."""
    from ops.errors import Exit, OpsError

    if member is not None and member not in _MEMBERS[service]:
        names = ", ".join(_MEMBERS[service])
        raise OpsError(f"unknown member {member!r} of {service}; choose one of {names}", Exit.USAGE)

"""The Redis servers and Sentinels of a stack with replicas: their roles and state, and the planned failover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from infra.docker.engine import DockerError
from infra.docker.redis_members import (
    RedisMember,
    ask_for_failover,
    has_quorum,
    is_linked,
    primary_of,
    redis_members,
    replication,
)
from infra.spec import redis_acl
from infra.spec.checkout import Checkout
from infra.spec.redis_replication import GROUP, SENTINEL_NAMES, SERVER_NAMES
from ops.errors import Exit, OpsError
from ops.stack.replicas import require_replicas

PRIMARY, REPLICA, SENTINEL = "primary", "replica", "sentinel"
_WAIT_SECONDS = 90.0
_POLL_SECONDS = 0.5
# Sentinel promotes the replica with the lowest priority first. 100 is Redis's default.
_FIRST, _USUAL = 1, 100


@dataclass(frozen=True)
class RedisRow:
    """A server or Sentinel. `lag_bytes` is what a replica has not received yet, or None if that is not known."""

    name: str
    container: str
    role: str
    state: str
    is_well: bool
    lag_bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "member": self.name,
            "container": self.container,
            "role": self.role or None,
            "state": self.state,
            "lagBytes": self.lag_bytes,
            "isWell": self.is_well,
        }


@dataclass(frozen=True)
class RedisCluster:
    """The Redis of a stack with replicas. `container` is the first server's."""

    stack: str
    container: str

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> RedisCluster:
        """Return the stack's Redis. Raise OpsError: 7 on AWS or without replicas, 6 if the stack is not up."""
        container = checkout.name(stack, SERVER_NAMES[0])
        require_replicas(checkout, stack, "Redis", lambda: redis_members(container))
        return cls(stack, container)

    def members(self) -> list[RedisRow]:
        """Return every server and Sentinel."""
        found = redis_members(self.container)
        reports = replication(found)
        primary = reports.get(primary_of(reports) or "", {})
        prefix = self.container.removesuffix(SERVER_NAMES[0])
        rows = []
        for name in (*SERVER_NAMES, *SENTINEL_NAMES):
            member = found.get(name) or RedisMember(name, f"{prefix}{name}", "missing", "")
            is_server = name in SERVER_NAMES
            rows.append(_server(member, reports.get(name), primary) if is_server else _sentinel(member))
        return rows

    def switch_over(self, to: str | None, say: Callable[[str], None]) -> tuple[str, str]:
        """Make another server the primary, and return the old and the new one.

        `to` names the server; without it, Sentinel chooses a replica. Raise OpsError (6) if a server does not follow
        the primary, or if another server or none becomes the primary.
        """
        members, old = self._complete()
        if to == old:
            return old, old
        say(f"moving the primary from {old} to {to or 'a replica'}")
        with self._preferred(members, to):
            self._promote(members, to)
            return old, self._named(to, self._moved(old))

    def require_no_primary(self) -> None:
        """Raise OpsError (7) if there is a primary."""
        if (primary := primary_of(replication(redis_members(self.container)))) is not None:
            raise OpsError(
                f"{primary} is the primary of {self._redis}; move it with"
                f" `groundwork cluster switchover --service redis --stack {self.stack}`",
                Exit.REFUSED,
            )

    def fail_over(self, to: str | None) -> str:
        """Promote a replica without the agreement of a majority of Sentinels, and return its name.

        Raise OpsError (6) if no Sentinel answers, knows a replica, or gets it promoted, or if it promotes another one
        than `to`.
        """
        members = redis_members(self.container)
        with self._preferred(members, to):
            self._promote(members, to)
            deadline = time.monotonic() + _WAIT_SECONDS
            while (primary := primary_of(replication(redis_members(self.container)))) is None:
                if time.monotonic() > deadline:
                    raise OpsError(
                        f"{self._redis} has no primary that a replica follows; start another server with"
                        f" `groundwork up --stack {self.stack}`",
                        Exit.UNREACHABLE,
                    )
                time.sleep(_POLL_SECONDS)
            return self._named(to, primary)

    def _named(self, to: str | None, primary: str) -> str:
        """Return the new primary. Raise OpsError (6) if Sentinel has not chosen `to`."""
        if to not in (None, primary):
            raise OpsError(
                f"{primary} became the primary of {self._redis} instead of {to}; see `groundwork cluster status"
                f" --service redis --stack {self.stack}`",
                Exit.UNREACHABLE,
            )
        return primary

    @contextmanager
    def _preferred(self, members: Mapping[str, RedisMember], to: str | None) -> Iterator[None]:
        """Make Sentinel choose `to`, if it is given, while the primary moves in the block."""
        if to and not (to in members and members[to].is_running):
            raise OpsError(f"{to} of {self._redis} does not run", Exit.UNREACHABLE)
        try:
            if to:
                self._set_priority(members[to], _FIRST)
            yield
        except DockerError as error:
            raise OpsError(f"cannot move the primary of {self._redis}: {error}", Exit.UNREACHABLE) from error
        finally:
            if to:
                # A preference that stays would only last until the server's next start.
                with suppress(DockerError):
                    self._set_priority(members[to], _USUAL)

    def _promote(self, members: Mapping[str, RedisMember], to: str | None) -> None:
        # All Sentinels read the priority meanwhile, so the second one is not awaited as long again.
        deadline = time.monotonic() + _WAIT_SECONDS

        def prepare(sentinel: RedisMember) -> None:
            if to:
                _wait_until_preferred(sentinel, members[to], deadline)

        if (answer := ask_for_failover(members, prepare)) != "OK":
            raise OpsError(
                f"Sentinel refuses to move the primary of {self._redis}: {answer}", Exit.UNREACHABLE
            )

    @property
    def _redis(self) -> str:
        return f"the Redis of stack {self.stack!r}"

    def _complete(self, old: str | None = None) -> tuple[dict[str, RedisMember], str]:
        """Wait until all servers have the primary's data, and return the members and the primary.

        `old` is the primary from which it was asked to move.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            members = redis_members(self.container)
            reports = replication(members)
            primary = primary_of(reports)
            missing = [n for n in SERVER_NAMES if n != primary and not is_linked(reports.get(n, {}))]
            if primary and not missing:
                return members, primary
            stopped = [n for n in SERVER_NAMES if not (n in members and members[n].is_running)]
            if stopped or time.monotonic() > deadline:
                absent = f"{', '.join(stopped or missing)} does not follow the primary"
                failure = f"cannot move the primary of {self._redis}"
                if old and primary not in (None, old):
                    failure = (
                        f"moved the primary of {self._redis} from {old} to {primary}, but it is not complete"
                    )
                raise OpsError(
                    f"{failure}: {absent if primary else 'there is no primary'};"
                    f" see `groundwork cluster status --stack {self.stack}`",
                    Exit.UNREACHABLE,
                )
            time.sleep(_POLL_SECONDS)

    def _set_priority(self, member: RedisMember, priority: int) -> None:
        member.ask(redis_acl.ROTATOR, f"CONFIG SET replica-priority {priority}")

    def _moved(self, old: str) -> str:
        """Wait until another server than `old` is the primary and all others follow it, and return it."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            _, primary = self._complete(old)
            if primary != old:
                return primary
            if time.monotonic() > deadline:
                raise OpsError(f"{old} is still the primary of {self._redis}", Exit.UNREACHABLE)
            time.sleep(_POLL_SECONDS)


def has_replicas(checkout: Checkout, stack: str) -> bool:
    """Return whether replicas of Redis exist on this machine."""
    return bool(redis_members(checkout.name(stack, SERVER_NAMES[0])))


def problems(rows: Sequence[RedisRow]) -> list[str]:
    """Return the problems of a Redis with replicas, the worst first. Empty if everything is healthy."""
    found = []
    if not any(row.role == PRIMARY and row.is_well for row in rows):
        found.append("there is no primary: the cache is off")
    return found + [f"{row.name} is {row.state}" for row in rows if not row.is_well]


def render(rows: Sequence[RedisRow]) -> list[str]:
    """Render the rows as the lines of a text table."""
    lines = [f"{'member':<12}{'role':<21}{'state':<21}{'lag':>16}  container"]
    for row in rows:
        lag = "" if row.lag_bytes is None else f"{row.lag_bytes}B"
        lines.append(f"{row.name:<12}{row.role:<21}{row.state:<21}{lag:>16}  {row.container}")
    return lines


def _server(member: RedisMember, report: Mapping[str, str] | None, primary: Mapping[str, str]) -> RedisRow:
    if report is None:
        state = "not answering" if member.is_running else member.state
        return RedisRow(member.name, member.container, "", state, is_well=False)
    if report["role"] == "master":
        is_well = report is primary
        state = "running" if is_well else "without replicas"
        return RedisRow(member.name, member.container, PRIMARY, state, is_well=is_well)
    if is_linked(report):
        # The primary is not asked at the same moment.
        lag = (
            max(0, int(primary["master_repl_offset"]) - int(report["slave_repl_offset"])) if primary else None
        )
        return RedisRow(member.name, member.container, REPLICA, "streaming", is_well=True, lag_bytes=lag)
    state = "copying the data" if report.get("master_sync_in_progress") == "1" else "without its primary"
    return RedisRow(member.name, member.container, REPLICA, state, is_well=False)


def _sentinel(member: RedisMember) -> RedisRow:
    state = member.state
    if member.is_running:
        try:
            state = "running" if has_quorum(member) else "without a quorum"
        except DockerError:
            state = "not answering"
    return RedisRow(member.name, member.container, SENTINEL, state, is_well=state == "running")


def _wait_until_preferred(sentinel: RedisMember, server: RedisMember, deadline: float) -> None:
    """Wait until a Sentinel knows the priority of a server, and reaches it. It reads the priorities every 10 s.

    Raises DockerError.
    """
    while True:
        known = _by_address(sentinel.ask(redis_acl.MONITOR, f"SENTINEL REPLICAS {GROUP}"))
        found = known.get(server.address, {})
        is_known = found.get("slave-priority") == str(_FIRST)
        if is_known and not any(flag in found["flags"] for flag in ("down", "disconnected")):
            return
        if time.monotonic() > deadline:
            raise DockerError(f"{sentinel.name} does not see that {server.name} should be the primary")
        time.sleep(_POLL_SECONDS)


def _by_address(answer: str) -> dict[str, dict[str, str]]:
    """Parse SENTINEL REPLICAS: names and values in turn, and each replica begins with `name`."""
    words = answer.splitlines()
    found: list[dict[str, str]] = []
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key == "name":
            found.append({})
        found[-1][key] = value
    return {each["ip"]: each for each in found}

"""The Postgres servers of a stack with replicas: their roles and state, and commands that change them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from infra.docker import ownership
from infra.docker.engine import CONFINED, STOP_LIMIT_SECONDS, DockerError, docker, inspect, label_options
from infra.docker.health_check import wait_until_healthy
from infra.docker.members import (
    answers_api,
    listed_members,
    member_containers,
    patronictl,
    primary_of,
    stored_settings,
)
from infra.spec import etcd
from infra.spec.backup import PGDATA
from infra.spec.checkout import Checkout
from infra.spec.postgres import DATA_DIR
from infra.spec.postgres_cluster import MEMBERS, SCOPE
from ops.errors import Exit, OpsError
from ops.servers.errors import one_line
from ops.stack.replicas import require_replicas

PRIMARY, SYNCHRONOUS, REPLICA = "primary", "synchronous replica", "replica"
_ROLES = {"Leader": PRIMARY, "Sync Standby": SYNCHRONOUS, "Replica": REPLICA}
# The states of a healthy primary and of a healthy replica.
_WELL = {"running", "streaming"}
# The states of a replica that may become the primary.
_PROMOTABLE = _WELL | {"in archive recovery"}
# The states of a container that does not start again without a command.
_STOPPED = {"created", "dead", "exited", "missing", "paused"}
# Copying a database of terabytes takes hours.
_COPIED_SECONDS = 24 * 3600.0
_LIST_SECONDS = 90.0
# A move takes up to 11 s on a busy machine. If an API does not answer, Patroni's command would wait forever.
_MOVE_SECONDS = 60
# One list takes a second.
_ALONE_SECONDS = 3.0
_STORE_SECONDS = 10
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Member:
    """A server. Without an entry in etcd, `role` is empty, and `state` is the container's.

    `lag_mb` is how many megabytes of WAL a replica has not replayed yet, or None if that is not known. `received` is
    the position up to which it has received WAL.
    """

    name: str
    container: str
    role: str
    state: str
    timeline: int | None = None
    lag_mb: int | None = None
    received: int = 0

    @property
    def is_well(self) -> bool:
        return bool(self.role) and self.state in _WELL

    def as_json(self) -> dict[str, Any]:
        return {
            "member": self.name,
            "container": self.container,
            "role": self.role or None,
            "state": self.state,
            "timeline": self.timeline,
            "lagMegabytes": self.lag_mb,
            "isWell": self.is_well,
        }


@dataclass(frozen=True)
class Cluster:
    """The Postgres servers of a stack with replicas. `containers` maps members to containers that exist."""

    stack: str
    containers: dict[str, str]

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> Cluster:
        """Return the stack's cluster. Raise OpsError: 7 on AWS or without replicas, 6 if the stack is not up."""
        first = checkout.name(stack, MEMBERS[0])
        return cls(stack, require_replicas(checkout, stack, "Postgres", lambda: member_containers(first)))

    def members(self) -> list[Member]:
        """Return every member, as the members that answer see it. Raise OpsError (6) if none answers."""
        inspected = inspect("container", *self.containers.values())
        states = {each["Name"].lstrip("/"): each["State"]["Status"] for each in inspected}
        running = [each for each in self.containers.values() if states.get(each) == "running"]
        # One that is isolated, or has no etcd, uses up the time limit. The others are then asked at the same time.
        with ThreadPoolExecutor(max_workers=len(MEMBERS)) as pool:
            asked = [pool.submit(_ask_members, each) for each in running[:1]]
            wait(asked, timeout=_ALONE_SECONDS)
            if not any(each.done() and each.result()[0] for each in asked):
                asked += [pool.submit(_ask_members, each) for each in running[1:]]
            answers = [each.result() for each in asked]
        if listed := next((listed for listed, _ in answers if listed), None):
            return [self._member(name, listed, states) for name in MEMBERS]
        unknown = "etcd does not answer" if running else "none is running"
        reason = next((error for _, error in answers if error), unknown)
        raise OpsError(
            f"the roles of the Postgres servers of stack {self.stack!r} are not known: {reason};"
            f" see `groundwork status --stack {self.stack}`",
            Exit.UNREACHABLE,
        )

    def _member(self, name: str, listed: Sequence[dict[str, Any]], states: dict[str, str]) -> Member:
        container = self.containers.get(name, "")
        found = next((each for each in listed if each["Member"] == name), None)
        state = states.get(container, "missing")
        if found is None or state != "running":
            # etcd forgets a dead member only after a while.
            return Member(name, container, "", "not in the cluster" if state == "running" else state)
        lag = found.get("Replay Lag")
        return Member(
            name,
            container,
            _ROLES.get(found["Role"], found["Role"].lower()),
            found["State"],
            found.get("TL"),
            lag if isinstance(lag, int) else None,
            _position(found.get("Receive LSN")),
        )

    def switch_over(self, to: str | None, say: Callable[[str], None]) -> tuple[str, str]:
        """Make another member the primary, and return the old and the new one.

        Only the synchronous replica is sure to have every acknowledged write. To move the role to another replica, it
        first moves to the synchronous replica, and then to the other, when that has become synchronous. Without `to`,
        the role moves once. Raise OpsError (6) if `to` is not healthy, before any move, or if a move fails.
        """
        if to is not None:
            self._require_well(to)
        found = self._require(PRIMARY, SYNCHRONOUS)
        began, candidate = found[PRIMARY], found[SYNCHRONOUS]
        if to == began:
            return began, began
        if to is not None and to != candidate:
            self._require_api(f"cannot move the primary from {began} to {to}", [to])
        say(f"moving the primary from {began} to {candidate}")
        self._move(began, candidate)
        if to is None or to == candidate:
            return began, candidate
        found = _by_role(self._wait(lambda members: _by_role(members).get(SYNCHRONOUS) == to))
        if found.get(SYNCHRONOUS) != to:
            raise OpsError(
                f"{to} of stack {self.stack!r} did not become the synchronous replica{_present(found)}; see"
                f" `groundwork cluster status --stack {self.stack}`, and run the same command again",
                Exit.UNREACHABLE,
            )
        say(f"moving the primary from {candidate} to {to}")
        self._move(candidate, to)
        return began, to

    def successor(self, to: str | None) -> Member:
        """Return the replica for a failover: `to`, or the synchronous replica, or the one that has received the most.

        Raise OpsError: 7 if there is a primary, 6 if the replica cannot become one.
        """
        members = self.members()
        if primary := next((m for m in members if m.role == PRIMARY and m.is_well), None):
            raise OpsError(
                f"{primary.name} is the primary of stack {self.stack!r} and runs; to move it without losing writes, run"
                f" `groundwork cluster switchover --stack {self.stack}`",
                Exit.REFUSED,
            )
        able = [m for m in members if m.role not in ("", PRIMARY) and m.state in _PROMOTABLE]
        if not able or to not in (None, *(m.name for m in able)):
            what = f"{to} cannot" if to else "no server can"
            states = ", ".join(f"{m.name} is {m.state}" for m in members)
            raise OpsError(
                f"{what} become the primary of stack {self.stack!r} ({states}); start the servers with"
                f" `groundwork up --stack {self.stack}`, or restore a backup with"
                f" `groundwork restore --to TIME --stack {self.stack}`",
                Exit.UNREACHABLE,
            )
        return max(able, key=lambda m: (m.name == to, m.role == SYNCHRONOUS, m.received))

    def fail_over(self, new: Member) -> None:
        """Promote a replica when there is no primary, and wait for it. Raise OpsError (6) if it fails."""
        options = ("--candidate", new.name, "--force")
        self._command("failover", options, f"cannot make {new.name} the primary", [new.name])
        deadline = time.monotonic() + _LIST_SECONDS
        while primary_of({new.name: new.container}) is None:
            if time.monotonic() > deadline:
                raise OpsError(
                    f"{new.name} did not become the primary of stack {self.stack!r}; see"
                    f" `groundwork logs --stack {self.stack} --service {new.name}`",
                    Exit.UNREACHABLE,
                )
            time.sleep(_POLL_SECONDS)

    def require_copyable(self, name: str) -> list[Member]:
        """Return the other members that are healthy. Raise OpsError if `name` cannot copy the primary's data again.

        7 if it is the primary, 6 if there is no primary or its container is missing.
        """
        members = self.members()
        others = [m for m in members if m.name != name and m.is_well]
        if any(m.name == name and m.role == PRIMARY for m in members):
            raise OpsError(
                f"{name} is the primary of stack {self.stack!r}, whose data the others copy; first run"
                f" `groundwork cluster switchover --stack {self.stack}`",
                Exit.REFUSED,
            )
        if PRIMARY not in [m.role for m in others]:
            raise OpsError(
                f"stack {self.stack!r} has no primary that {name} could copy; see"
                f" `groundwork cluster status --stack {self.stack}`",
                Exit.UNREACHABLE,
            )
        if name not in self.containers:
            raise OpsError(
                f"the container of {name} is missing; `groundwork up --stack {self.stack}` creates it",
                Exit.UNREACHABLE,
            )
        return others

    def copy_again(self, name: str, say: Callable[[str], None]) -> None:
        """Delete a replica's data, and wait until it has copied the primary. After a kill, call it again.

        This works in any state of the replica, because neither Patroni nor Postgres has to run in it. Raise OpsError
        (6) and keep the data if there is no primary without it.
        """
        container = self.containers[name]
        say(f"stopping {name}")
        docker("stop", container, timeout_seconds=STOP_LIMIT_SECONDS)
        try:
            self._require(PRIMARY)
        except BaseException:
            # It may have become the primary before it stopped, and only it has the last writes then.
            say(f"starting {name} again, with its data")
            try:
                docker("start", container)
            except DockerError as error:
                say(
                    f"{name} is still stopped, with its data: {error}; run `groundwork up --stack {self.stack}`"
                )
            raise
        say(f"deleting the data of {name}")
        (found,) = inspect("container", container)
        labels = found["Config"]["Labels"] | {ownership.WORKBENCH_LABEL: container.removesuffix(f"-{name}")}
        docker(
            *("run", "--rm", "--init", *label_options(labels), "--network", "none"),
            *("--user", found["Config"]["User"], *CONFINED, "--volume", f"{container}-data:{DATA_DIR}"),
            *("--entrypoint", "sh", found["Image"], "-c", f"rm -rf {PGDATA} {PGDATA}.*"),
            timeout_seconds=_LIST_SECONDS * 10,
        )
        say(f"copying the data of the primary to {name}")
        docker("start", container)
        try:
            wait_until_healthy(container, _COPIED_SECONDS)
        except DockerError as error:
            raise OpsError(str(error), Exit.UNREACHABLE) from error

    def _move(self, old: str, new: str) -> None:
        """Move the primary, and wait until it has a synchronous replica. Raise OpsError (6) if it has not moved."""
        options = ("--leader", old, "--candidate", new, "--force")
        failure = f"cannot move the primary from {old} to {new}"
        said = self._command("switchover", options, failure, [old, new])
        # patronictl exits with 0 although Patroni has refused, or has chosen another member.
        primary = self._require(PRIMARY, SYNCHRONOUS)[PRIMARY]
        if primary != new:
            reasons = [line for line in said.splitlines() if "failed" in line or "instead" in line]
            reason = f"{reasons[-1]}; " if reasons else ""
            raise OpsError(
                f"{failure}: {reason}{primary} is the primary; see `groundwork cluster status --stack {self.stack}`",
                Exit.UNREACHABLE,
            )

    def _command(self, command: str, options: Sequence[str], failure: str, asked: Sequence[str]) -> str:
        """Run a command of patronictl that needs the API of the members `asked`, and return its output.

        Raise OpsError (6) if it fails.
        """
        self._require_api(failure, asked)
        container = self.containers[asked[0]]
        try:
            return patronictl(container, command, SCOPE, *options, seconds=_MOVE_SECONDS)
        except DockerError as error:
            # A server may have fallen silent meanwhile.
            self._require_api(failure, asked)
            raise OpsError(
                f"{failure}: {str(error).splitlines()[-1]}; see `groundwork cluster status --stack {self.stack}`",
                Exit.UNREACHABLE,
            ) from error

    def _require_api(self, failure: str, names: Sequence[str]) -> None:
        """Raise OpsError (6) if the API of one of these members does not answer."""
        if silent := next((name for name in names if not answers_api(self.containers[name])), None):
            raise OpsError(
                f"{failure}: Patroni's API of {silent} does not answer; see `groundwork cluster status --stack"
                f" {self.stack}` and docs/high-availability.md (When a server has failed)",
                Exit.UNREACHABLE,
            )

    def _require_well(self, name: str) -> None:
        """Wait until a member is healthy, unless it is stopped. Raise OpsError (6) if it is not."""

        def find(members: Sequence[Member]) -> Member:
            return next(member for member in members if member.name == name)

        found = find(self._wait(lambda members: find(members).is_well or find(members).state in _STOPPED))
        if not found.is_well:
            raise OpsError(
                f"cannot move the primary of stack {self.stack!r} to {name}, which is {found.state};"
                f" `groundwork up --stack {self.stack}` starts a stopped server; see docs/high-availability.md (When a"
                " server has failed)",
                Exit.UNREACHABLE,
            )

    def _require(self, *roles: str) -> dict[str, str]:
        """Wait until healthy members have these roles, and return the healthy members by role. Raise OpsError (6)."""
        found = _by_role(self._wait(lambda members: _by_role(members).keys() >= {*roles}))
        if missing := next((role for role in roles if role not in found), None):
            raise OpsError(
                f"the Postgres of stack {self.stack!r} has no {missing}{_present(found)}; see"
                f" `groundwork cluster status --stack {self.stack}`",
                Exit.UNREACHABLE,
            )
        return found

    def _wait(self, is_enough: Callable[[list[Member]], bool]) -> list[Member]:
        """Wait a while until `is_enough`, and return the members. Raise OpsError (6) if their roles are not known."""
        deadline = time.monotonic() + _LIST_SECONDS
        while True:
            try:
                members = self.members()
            except OpsError:
                # etcd may be electing a leader, and a list may take too long on a busy machine.
                if time.monotonic() > deadline:
                    raise
            else:
                if is_enough(members) or time.monotonic() > deadline:
                    return members
            time.sleep(_POLL_SECONDS)


def has_replicas(checkout: Checkout, stack: str) -> bool:
    """Return whether replicas of Postgres exist on this machine."""
    return bool(member_containers(checkout.name(stack, MEMBERS[0])))


def _by_role(members: Sequence[Member]) -> dict[str, str]:
    """Return the healthy members by role."""
    return {member.role: member.name for member in members if member.is_well}


def _present(roles: Mapping[str, str]) -> str:
    """Return the part of a message that names the present primary, if there is one."""
    return f"; {roles[PRIMARY]} is the primary" if PRIMARY in roles else ""


def _ask_members(container: str) -> tuple[list[dict[str, Any]], str]:
    """Return the members as one of them lists them, and why it cannot."""
    try:
        return listed_members(container), ""
    except DockerError as error:
        return [], str(error)


def _position(lsn: object) -> int:
    """Return an LSN such as `16/B374D848` as a number, or 0 if Patroni does not know it."""
    high, slash, low = str(lsn).partition("/")
    return (int(high, 16) << 32) + int(low, 16) if slash else 0


def problems(members: Sequence[Member]) -> list[str]:
    """Return the problems of a cluster, the worst first. Empty if all members are healthy."""
    roles = [member.role for member in members if member.is_well]
    found = []
    if PRIMARY not in roles:
        found.append("there is no primary: nothing can be written")
    elif SYNCHRONOUS not in roles:
        found.append("there is no synchronous replica: every write waits")
    found += [f"{member.name} is {member.state}" for member in members if not member.is_well]
    timelines = {member.timeline for member in members if member.is_well and member.timeline}
    if len(timelines) > 1:
        found.append(f"the members are on different timelines ({', '.join(map(str, sorted(timelines)))})")
    return found


def silent_api_problems(members: Sequence[Member]) -> list[str]:
    """Return a problem for each healthy member whose Patroni does not answer. Other states imply it."""
    return [
        f"Patroni's API of {member.name} does not answer: no switchover, and no primary without etcd"
        for member in members
        if member.is_well and not answers_api(member.container)
    ]


def paused_container(members: Sequence[Member]) -> str | None:
    """Return a container whose Patroni is in maintenance mode, or None. An interrupted command may have left it on."""
    for member in members:
        if not member.is_well:
            continue
        try:
            is_paused = stored_settings(member.container).get("pause") is True
        except DockerError:
            # It may be isolated. If no member answers, `store_problems` reports it.
            continue
        return member.container if is_paused else None
    return None


def store_problems(containers: Mapping[str, str]) -> list[str]:
    """Return a problem for each member of etcd that does not answer. Each answers only if it reaches a majority.

    `containers` maps members to containers.
    """
    with ThreadPoolExecutor(max_workers=len(etcd.MEMBERS)) as pool:
        return [line for line in pool.map(_store_problem, containers.items()) if line]


def _store_problem(store: tuple[str, str]) -> str:
    service, container = store
    try:
        docker("exec", container, "groundwork-health", timeout_seconds=_STORE_SECONDS)
    except DockerError as error:
        return f"{service}: {one_line(error)}"
    return ""


def render(members: Sequence[Member]) -> list[str]:
    """Render the members as the lines of a text table."""
    lines = [f"{'member':<12}{'role':<21}{'state':<21}{'timeline':>8}{'lag':>8}  container"]
    for member in members:
        lag = "" if member.lag_mb is None else f"{member.lag_mb}MB"
        cells = f"{member.name:<12}{member.role:<21}{member.state:<21}{member.timeline or '':>8}{lag:>8}"
        lines.append(f"{cells}  {member.container}")
    return lines

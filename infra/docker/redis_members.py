"""The servers and Sentinels of a stack's Redis with replicas: their containers, roles, and the planned failover."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from infra.docker.engine import DockerError, docker, inspect
from infra.spec import redis, redis_acl
from infra.spec.redis_replication import GROUP, SENTINEL_NAMES, SENTINEL_PORT, SERVER_NAMES, redis_command


@dataclass(frozen=True)
class RedisMember:
    """A server or Sentinel: its container, the container's state, and its address in the data network."""

    name: str
    container: str
    state: str
    address: str

    @property
    def port(self) -> int:
        return SENTINEL_PORT if self.name in SENTINEL_NAMES else redis.PORT

    def ask(self, user: redis_acl.RedisUser, command: str, target: RedisMember | None = None) -> str:
        """Run a command as `user` in this member, or in `target` from this member's container.

        Raises DockerError if the container does not run, the server does not answer, or the user cannot log in.
        """
        host, port = (target.address, target.port) if target else ("localhost", self.port)
        said = docker("exec", self.container, *redis_command(user, command, port, host), timeout_seconds=30)
        logged_in, _, answer = said.partition("\n")
        if logged_in != "OK":
            raise DockerError(f"{(target or self).name} refuses user {user.name}: {logged_in}")
        return answer.strip()

    def info(self, section: str) -> dict[str, str]:
        """Return a section of the server's INFO. Raises DockerError as `ask` does."""
        lines = self.ask(redis_acl.MONITOR, f"INFO {section}").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    @property
    def is_running(self) -> bool:
        return self.state == "running"


def redis_members(container: str) -> dict[str, RedisMember]:
    """Return the existing servers and Sentinels by name, given the first server's container.

    Empty for a Redis without replicas.
    """
    found = existing_members(container)
    return found if found.keys() - {SERVER_NAMES[0]} else {}


def existing_members(container: str) -> dict[str, RedisMember]:
    """Return what `redis_members` does, or for a Redis without replicas its server."""
    prefix = container.removesuffix(SERVER_NAMES[0])
    found: dict[str, RedisMember] = {}
    for each in inspect("container", *(prefix + name for name in (*SERVER_NAMES, *SENTINEL_NAMES))):
        name = each["Name"].lstrip("/").removeprefix(prefix)
        networks = each["NetworkSettings"]["Networks"].values()
        address = next((network["IPAddress"] for network in networks), "")
        found[name] = RedisMember(name, prefix + name, each["State"]["Status"], address)
    return found


def replication(members: Mapping[str, RedisMember]) -> dict[str, dict[str, str]]:
    """Return INFO replication of each server that answers, by name."""
    found: dict[str, dict[str, str]] = {}
    for name in SERVER_NAMES:
        if name in members and members[name].is_running:
            # It may be frozen or starting.
            with suppress(DockerError):
                found[name] = members[name].info("replication")
    return found


def primary_of(reports: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return the server that accepts writes: the primary that replicas follow. `reports` is from `replication`."""
    for name, report in reports.items():
        if report["role"] == "master" and int(report.get("min_slaves_good_slaves", 0)):
            return name
    return None


def is_linked(report: Mapping[str, str]) -> bool:
    """Return whether a server is a replica that is connected to its primary and has its data."""
    return report.get("master_link_status") == "up"


def has_quorum(sentinel: RedisMember) -> bool:
    """Return whether a Sentinel can authorize a failover. Raises DockerError if it does not answer."""
    return sentinel.ask(redis_acl.MONITOR, f"SENTINEL CKQUORUM {GROUP}").startswith("OK")


def sentinels(members: Mapping[str, RedisMember]) -> Iterator[RedisMember]:
    """Yield the Sentinels that can authorize a failover, or if there is none, those that answer.

    An isolated Sentinel answers too, but knows no replica. Each one is asked only when it is needed. Raises DockerError
    if none answers.
    """
    answering: list[RedisMember] = []
    reasons = []
    is_authorized = False
    for name in SENTINEL_NAMES:
        if name in members and members[name].is_running:
            try:
                authorizes = has_quorum(members[name])
            except DockerError as error:
                reasons.append(str(error))
                continue
            if authorizes:
                is_authorized = True
                yield members[name]
            else:
                answering.append(members[name])
    if not is_authorized:
        if not answering:
            raise DockerError(f"no Sentinel answers: {'; '.join(reasons) or 'none is running'}")
        yield from answering


def ask_for_failover(
    members: Mapping[str, RedisMember], prepare: Callable[[RedisMember], None] = lambda _: None
) -> str:
    """Ask Sentinels to promote a replica, in turn until one does not refuse. Return OK, or why the last one refuses.

    `prepare` is called for each Sentinel before it is asked. Raises DockerError if no Sentinel answers.
    """
    answer, reasons = "", []
    for sentinel in sentinels(members):
        try:
            prepare(sentinel)
            answer = sentinel.ask(redis_acl.PEER, f"SENTINEL FAILOVER {GROUP}")
        except DockerError as error:
            reasons.append(str(error))
            continue
        # Another failover must not begin beside one that is in progress.
        if answer.startswith(("OK", "INPROG")):
            return answer
    if not answer:
        raise DockerError("; ".join(reasons))
    return answer

"""The running members of a Postgres cluster, and what must be true of them before a change.

A stack's containers are found by their names, so this works for stacks without replicas too.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from infra.docker.engine import STOP_LIMIT_SECONDS, DockerError, docker, inspect, psql
from infra.spec import etcd, postgres_cluster
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from infra.spec.postgres import CONFIG_DIR
from infra.spec.postgres_cluster import REST_PORT, SCOPE
from infra.state_folder import Mark

_FIRST, *_OTHERS = postgres_cluster.MEMBERS
# A failover takes 30 s, on a busy machine longer.
WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.5
# Patroni's list takes a second, on a busy machine several.
_LIST_SECONDS = 15
# A server with a load above its cores answers within a second.
_API_SECONDS = 5
_GREET_API = f"import ssl; ssl.get_server_certificate(('127.0.0.1', {REST_PORT}), timeout={_API_SECONDS})"
_IS_PRIMARY = "SELECT NOT pg_is_in_recovery()"


class NoPrimary(InfraError):
    """No member of a cluster is the primary, or the primary is the wrong member."""

    # Exit.UNREACHABLE of ops.errors.
    exit_code = 6


@dataclass(frozen=True)
class ClusterState:
    """A stack's cluster: whether it exists, the primary, and whether a majority of etcd's members exists."""

    exists: bool = False
    primary: str | None = None
    has_stores: bool = False

    def order(self) -> list[str]:
        """Return the members in the order in which they are changed: the primary last, so that it changes once."""
        return sorted(postgres_cluster.MEMBERS, key=lambda member: member == self.primary)


def member_containers(container: str) -> dict[str, str]:
    """Return the containers of a cluster by member, given the first one's name. Empty for a single server."""
    prefix = container.removesuffix(_FIRST)
    found = {
        each["Name"].lstrip("/")
        for each in inspect("container", *map(prefix.__add__, postgres_cluster.MEMBERS))
    }
    members = {member: prefix + member for member in postgres_cluster.MEMBERS if prefix + member in found}
    return members if members.keys() - {_FIRST} else {}


def stack_of(container: str) -> str:
    """Return the stack of a member's container: `dev` for `gw-1a2b3c-dev-postgres-2`."""
    return container.split("-", 2)[-1].rpartition(f"-{_FIRST}")[0]


def primary_container(container: str, wait_seconds: float = WAIT_SECONDS) -> str:
    """Return the container of the primary, given the first member's: `container` itself for a single server.

    Waits during a failover. Raises NoPrimary if there is none within `wait_seconds`.
    """
    members = member_containers(container)
    if not members:
        return container
    deadline = time.monotonic() + wait_seconds
    while (member := primary_of(members)) is None:
        if time.monotonic() > deadline:
            _refuse_expired(container)
            raise NoPrimary(
                f"no member of {', '.join(members)} is the primary; see"
                f" `groundwork cluster status --stack {stack_of(container)}`"
            )
        time.sleep(_POLL_SECONDS)
    return members[member]


def primary_of(members: dict[str, str]) -> str | None:
    """Return the member that is the primary now, or None."""
    return next((member for member, is_primary in _answers(members) if is_primary), None)


def _answers(members: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """Ask each member whether it is the primary, and yield the answers. One that does not answer is left out."""
    for member, container in members.items():
        try:
            answer = psql(container, _IS_PRIMARY, timeout_seconds=15)
        except DockerError:
            # It is stopped, frozen, or starting.
            continue
        yield member, answer.strip() == "t"


def expired_members(container: str) -> list[str]:
    """Return the servers and members of etcd whose certificate has expired, given the first server's container.

    The certificate is read from each container's files, because a server whose certificate has expired may not run.
    """
    # Imported here, because most commands read no certificate.
    from infra.certificates import expires_at

    prefix, now = container.removesuffix(_FIRST), dt.datetime.now(dt.UTC)
    expired = []
    for name in (*postgres_cluster.MEMBERS, *etcd.MEMBERS):
        try:
            # A tar archive. The reader skips what is around the certificate.
            archive = docker("cp", f"{prefix}{name}:{CONFIG_DIR}/server.crt", "-", timeout_seconds=15)
            if expires_at(archive) < now:
                expired.append(name)
        except (DockerError, ValueError):
            # Its container is missing, or has not got its files yet.
            continue
    return expired


def renewal(stack_option: str) -> str:
    """Return how to renew expired certificates if there is no primary."""
    return f"run `groundwork down{stack_option}`, then `groundwork up{stack_option}`; the data is kept"


def _refuse_expired(container: str) -> None:
    """Raise NoPrimary if certificates have expired, so that there can be no primary.

    Members of etcd verify each other's, and do not find a majority after they have been started again.
    """
    if expired := expired_members(container):
        stack = stack_of(container)
        raise NoPrimary(
            f"Postgres of stack {stack!r} has no primary, because certificates have expired ({', '.join(expired)});"
            f" {renewal(f' --stack {stack}')}"
        )


def patronictl(container: str, *arguments: str, stdin: str = "", seconds: int = 300) -> str:
    """Run Patroni's command line in a member's container, and return its output.

    Raises DockerError if it fails, or takes longer than `seconds`: without etcd, or if the API of a server does not
    answer, it would wait forever.
    """
    command = ("exec", "--interactive", container, "timeout", str(seconds), "patronictl", *arguments)
    try:
        return docker(*command, stdin=stdin.encode(), timeout_seconds=seconds + 30)
    except DockerError as error:
        if str(error).endswith("exit status 124"):
            raise DockerError(
                f"`patronictl {arguments[0]}` in {container} did not end within {seconds} s; see"
                f" `groundwork doctor --stack {stack_of(container)}`"
            ) from error
        raise


def answers_api(container: str) -> bool:
    """Return whether Patroni's API in a member's container completes a TLS handshake within some seconds."""
    try:
        docker("exec", container, "python3", "-I", "-c", _GREET_API, timeout_seconds=6 * _API_SECONDS)
    except DockerError:
        return False
    return True


def listed_members(container: str) -> list[dict[str, Any]]:
    """Return the members as Patroni lists them, as seen from a member's container. Raises DockerError."""
    try:
        listed: list[dict[str, Any]] = json.loads(
            patronictl(container, "list", SCOPE, "--format=json", seconds=_LIST_SECONDS)
        )
    except (DockerError, ValueError) as error:
        raise DockerError(f"Patroni in {container} cannot list the members; see whether etcd runs") from error
    return listed


def stored_settings(container: str) -> dict[str, Any]:
    """Return the settings that the members share in etcd, as a member's container reaches it. Raises DockerError."""
    import yaml

    settings = patronictl(container, "show-config", SCOPE, seconds=_LIST_SECONDS)
    return dict(yaml.safe_load(settings) or {})


def store_settings(containers: Iterable[str], configuration: str, *, seconds: int = _LIST_SECONDS) -> bool:
    """Replace the settings that the members share in etcd, and return whether they differed.

    Needs no primary: each container is tried until one reaches etcd. Raises DockerError if none does.
    """
    edit = ("edit-config", SCOPE, "--replace=-", "--force", "--quiet")
    failed = DockerError("no member is there to reach etcd")
    for container in containers:
        try:
            return "Configuration changed" in patronictl(
                container, *edit, stdin=configuration, seconds=seconds
            )
        except DockerError as error:
            failed = error
    raise failed


def observe(
    checkout: Checkout, stack: str, *, replicas: int, subnet: str, configuration: str | None = None
) -> ClusterState:
    """Return the cluster before an `up`. Raises InfraError if the settings cannot be reached from it.

    If no server answers, `configuration` is stored in etcd first, and the primary that it makes possible is awaited.
    """
    first = checkout.name(stack, _FIRST)
    members = member_containers(first)
    # A replica that runs beside the mark may be the primary, so that the mark proves nothing.
    if replicas == 0 and retired_replicas(checkout, stack) and not _runs(_others(members)):
        return ClusterState(exists=bool(members), primary=_FIRST)
    if not members:
        if replicas == 0 and _has_replicas_data(checkout, stack) and primary_of({_FIRST: first}) is None:
            raise NoPrimary(
                f"groundwork:postgresReplicas cannot become 0 while the servers of stack {stack!r} are down, because"
                f" only the data of {_FIRST} is kept, and another server may have been the primary last; first set it"
                f" to {len(_OTHERS)}, run `groundwork up --stack {stack}`, and move the primary to {_FIRST} with"
                f" `groundwork cluster switchover --to {_FIRST} --stack {stack}`"
            )
        return ClusterState()
    primary = primary_of(members)
    # A failover has no primary for a while. It ends without these settings, which nothing has checked yet.
    if primary is None and replicas and configuration is not None and next(_answers(members), None) is None:
        primary = _repaired(members, first, configuration)
    stores = inspect("container", *(checkout.name(stack, store) for store in etcd.MEMBERS))
    has_stores = len(stores) > len(etcd.MEMBERS) // 2
    # Without etcd, or without the only member that can create a cluster, this `up` creates what a primary needs.
    if primary is None and ((has_stores and _FIRST in members) or replicas == 0):
        _refuse_expired(first)
        # Only an `up` that keeps the replicas writes parameters without a primary.
        keep = "" if replicas else f"set groundwork:postgresReplicas back to {len(_OTHERS)}, "
        raise NoPrimary(
            f"Postgres of stack {stack!r} has no primary, so `up` cannot change its servers one by one; wait until"
            f" `groundwork cluster status --stack {stack}` shows a primary, and run the same command again. If"
            f" `groundwork logs --stack {stack}` shows that a parameter prevents the start, {keep}correct"
            f" groundwork:postgresParameters and run `groundwork up --stack {stack}`"
        )
    if replicas == 0 and primary != _FIRST:
        raise NoPrimary(
            f"groundwork:postgresReplicas cannot become 0 while {primary} is the primary, because only the data of"
            f" {_FIRST} is kept; run `groundwork cluster switchover --to {_FIRST} --stack {stack}` first"
        )
    if replicas and (used := _subnet_of(checkout, stack)) not in (None, subnet):
        raise InfraError(
            f"groundwork:networkSubnet cannot change from {used} to {subnet} while Postgres has replicas;"
            f" set groundwork:postgresReplicas to 0 in the same change, run `groundwork up --stack {stack}`, and turn"
            " the replicas on again"
        )
    return ClusterState(exists=True, primary=primary, has_stores=has_stores)


def _repaired(members: dict[str, str], first: str, configuration: str) -> str | None:
    """Store settings without a primary, and return the member that becomes the primary with them, or None.

    If no server starts with a parameter, it can be corrected only in etcd.
    """
    try:
        if store_settings(members.values(), configuration):
            primary_container(first)
    except (DockerError, NoPrimary):
        # The caller says what to do.
        return None
    return primary_of(members)


def retire_replicas(checkout: Checkout, stack: str) -> list[str]:
    """Stop all members but the first, which must be the primary, and return their containers.

    A commit that waits for a replica is then never acknowledged, and no replica can become the primary when the first
    server is replaced by a single one. A file records this, so that an interrupted `up` can be continued.
    Raises NoPrimary if another member became the primary before it was stopped.
    """
    first = checkout.name(stack, _FIRST)
    others = _others(member_containers(first))
    if others:
        mark = _retirement(checkout, stack)
        # An `up` that continues may have removed the first server already. A replica that somebody started again may
        # have become the primary.
        is_proven = mark.is_set() and not _runs(others)
        if not is_proven:
            # If this is interrupted after the stop, the old mark must not prove anything.
            mark.remove()
        docker("stop", *others, timeout_seconds=STOP_LIMIT_SECONDS)
        if not is_proven and primary_of({_FIRST: first}) is None:
            raise NoPrimary(
                f"{_FIRST} is not the primary of stack {stack!r} any more; run `groundwork up --stack {stack}` again,"
                " which starts the replicas and names the primary"
            )
        mark.set()
    return others


def retired_replicas(checkout: Checkout, stack: str) -> list[str]:
    """Return the containers that an `up` has stopped because the first server is to be the only one."""
    if not _retirement(checkout, stack).is_set():
        return []
    return [checkout.name(stack, member) for member in _OTHERS]


def forget_retirement(checkout: Checkout, stack: str) -> None:
    """Allow the replicas to be started again. Call it after the `up`, and before one that keeps the replicas."""
    _retirement(checkout, stack).remove()


def _others(members: dict[str, str]) -> list[str]:
    return [container for member, container in members.items() if member != _FIRST]


def _runs(containers: list[str]) -> bool:
    """Return whether one of the containers runs. A frozen one can be thawed, so it runs too."""
    return any(each["State"]["Running"] for each in inspect("container", *containers))


def _retirement(checkout: Checkout, stack: str) -> Mark:
    return Mark(checkout, stack, "replicas-retired")


def _has_replicas_data(checkout: Checkout, stack: str) -> bool:
    return bool(inspect("volume", *(checkout.name(stack, f"{member}-data") for member in _OTHERS)))


def _subnet_of(checkout: Checkout, stack: str) -> str | None:
    for network in inspect("network", checkout.name(stack, "data")):
        return str(network["IPAM"]["Config"][0]["Subnet"])
    return None

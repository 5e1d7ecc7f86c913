"""The status of a stack's containers and the next steps after `up`, from Docker and the stack outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from infra import outputs
from infra.docker import ownership
from infra.docker.engine import inspect
from infra.docker.health_check import health
from infra.images.build import PACKAGES_DATE_LABEL
from infra.spec import etcd, monitoring, postgres_cluster, redis_replication
from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError
from ops.stack.aws_advice import for_aws
from ops.stack.server_roles import server_roles

# Every stack has these. The others exist only with replicas or monitoring.
SERVICES = ("postgres", "redis", "access")
CLUSTER_SERVICES = (*postgres_cluster.MEMBERS[1:], *etcd.MEMBERS)
REDIS_SERVICES = (*redis_replication.SERVER_NAMES, *redis_replication.SENTINEL_NAMES)
ALL_SERVICES = ("postgres", *CLUSTER_SERVICES, *REDIS_SERVICES, "access", *monitoring.SERVICES)
# `up` and `doctor` report packages that are older. Debian publishes security updates every few days.
PACKAGES_DAYS = 30


def container_rows(checkout: Checkout, stack: str) -> list[dict[str, Any]]:
    """Return a row per existing container: service, name, health, address, memory limit, start time.

    Raise OpsError (7) for a stack on AWS, which has no containers here. Raise OwnedByAnother (7) for containers that
    another state owns, and DockerError without an engine.
    """
    refuse_on_aws(checkout, stack)
    names = {checkout.name(stack, service): service for service in ALL_SERVICES}
    found = inspect("container", *names)
    ownership.require_own(checkout, stack)
    rows = []
    for container in found:
        state = container["State"]
        bindings = container["HostConfig"]["PortBindings"] or {}
        addresses = [f"{b['HostIp']}:{b['HostPort']}" for entry in bindings.values() for b in entry or ()]
        rows.append(
            {
                "service": names[container["Name"].lstrip("/")],
                "container": container["Name"].lstrip("/"),
                "health": health(container),
                "address": ", ".join(addresses),
                "memoryLimitBytes": container["HostConfig"]["Memory"],
                "isRunning": state["Running"] and not state["Paused"],
                "startedAt": state["StartedAt"],
                "restarts": container["RestartCount"],
            }
        )
    return sorted(rows, key=lambda row: ALL_SERVICES.index(row["service"]))


def with_roles(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of running and stopped containers with the present `role` of each server, or None."""
    containers = {row["service"]: row["container"] for row in rows}
    roles = server_roles(containers, [row["service"] for row in rows if row["isRunning"]])
    return [{**row, "role": roles.get(row["service"])} for row in rows]


def old_packages(prefix: str, now: float) -> dict[str, int]:
    """Return service -> age in days, for the services whose Debian packages are older than PACKAGES_DAYS.

    `prefix` is the prefix of the containers' names, and `now` is the time in seconds since 1970. The result omits
    containers that do not exist, and those of an earlier version, which have no date.
    """
    found = inspect("container", *(f"{prefix}{service}" for service in ALL_SERVICES))
    # A container has the labels of its image.
    dates = {
        container["Name"].lstrip("/").removeprefix(prefix): container["Config"]["Labels"][PACKAGES_DATE_LABEL]
        for container in found
        if PACKAGES_DATE_LABEL in (container["Config"]["Labels"] or {})
    }
    ages = {
        service: int((now - datetime.fromisoformat(date).timestamp()) // 86400)
        for service, date in dates.items()
    }
    return {service: days for service, days in ages.items() if days > PACKAGES_DAYS}


def refuse_on_aws(checkout: Checkout, stack: str) -> None:
    """Raise OpsError (7) for a stack on AWS, in a command that works on containers."""
    from ops.stack.pulumi_stack import PulumiStack

    target = PulumiStack(checkout, stack)
    if target.exists and target.public_outputs().get(outputs.TARGET) == "aws":
        raise OpsError(
            f"stack {stack!r} is on AWS and has no containers here; find its logs in CloudWatch under"
            f" /groundwork/{stack}, and connect to its servers from inside the VPC (docs/aws.md)",
            Exit.REFUSED,
        )


def needed_services(values: Mapping[str, Any]) -> list[str]:
    """Return the services that the last `up` started, from its outputs. Without outputs: those of every stack."""
    replicas = values.get(outputs.POSTGRES_REPLICAS, ()) if values.get(outputs.TARGET) == "aws" else ()
    # The network is among the containers as well.
    started = [service for service in values.get(outputs.CONTAINERS) or () if service in ALL_SERVICES]
    return started or [*SERVICES, *(f"postgres-replica-{n}" for n in range(1, len(replicas) + 1))]


def require_well(
    rows: list[dict[str, Any]],
    stack: str,
    needed: Collection[str] = SERVICES,
    on_aws: bool = False,
    unfinished_restore: str | None = None,
) -> None:
    """Raise OpsError (6) if a part of the stack is unhealthy, or a needed service is missing.

    `unfinished_restore` says why, and what to do, if a restore has stopped the servers.
    """
    up = f"`groundwork up --stack {stack}`"
    if not rows:
        raise OpsError(f"stack {stack!r} is not up; {unfinished_restore or f'run {up}'}", Exit.UNREACHABLE)
    there = [row["service"] for row in rows]
    ill = [f"{row['service']} is {row['health']}" for row in rows if row["health"] != "healthy"]
    ill += [f"{service} is missing" for service in needed if service not in there]
    if ill:
        advice = f"see why in `groundwork logs --stack {stack}`, and recreate what is missing with {up}"
        if on_aws:
            advice = for_aws(advice, stack)
        advice = unfinished_restore or advice
        raise OpsError(f"stack {stack!r}: {', '.join(ill)}; {advice}", Exit.UNREACHABLE)


def render(rows: list[dict[str, Any]]) -> list[str]:
    """Render the rows as the lines of a text table."""
    width = max(len(row["service"]) for row in rows) + 2
    # Without replicas there is no such column.
    longest = max(len(row.get("role") or "") for row in rows)
    roles, heading = (longest + 2, "role") if longest else (0, "")
    lines = [f"{'service':<{width}}{heading:<{roles}}{'health':<11}{'address':<18}{'memory':>7}  container"]
    for row in rows:
        memory = f"{row['memoryLimitBytes'] // 1024**2}MB"
        name = f"{row['service']:<{width}}{row.get('role') or '':<{roles}}"
        lines.append(f"{name}{row['health']:<11}{row['address']:<18}{memory:>7}  {row['container']}")
    lines += [
        f"Prometheus: http://{row['address']} (alerts: /classic/alerts)"
        for row in rows
        if row["service"] == monitoring.PROMETHEUS
    ]
    return lines


def next_steps(values: dict[str, Any], stack: str, seconds: float) -> list[str]:
    """Return the last lines that `up` prints: addresses, and commands to try. They contain no secrets."""
    cache = ", ".join(f"{host}:{port}" for host, port in outputs.redis_addresses(values))
    option = "" if stack == "dev" else f" --stack {stack}"
    variable = "" if stack == "dev" else f" STACK={stack}"
    on_aws = {
        f".venv/bin/groundwork status{option}": "show servers and tasks",
        f".venv/bin/groundwork backup{option}": "take a snapshot; list them with `backup list`",
        f".venv/bin/groundwork env --role app{option}": "DATABASE_URL and REDIS_URL, without passwords",
    }
    commands = (
        on_aws
        if values[outputs.TARGET] == "aws"
        else {
            f".venv/bin/groundwork seed{option}": "load sample data",
            f"make psql{variable}": "query it",
            f".venv/bin/groundwork backup{option}": "take a backup; list them with `backup list`",
            f".venv/bin/groundwork env --role app{option}": "DATABASE_URL and REDIS_URL for an application",
        }
    )
    width = max(len(command) for command in commands)
    prometheus = values.get(outputs.PROMETHEUS_URL)
    return [
        "",
        f"Stack {stack!r} is up ({seconds:.1f} s).",
        f"  Postgres  {_addresses(values)}, database groundwork (TLS, verify-full)",
        f"  Redis     {cache} (TLS)",
        f"  Access    {values[outputs.ACCESS_URL]}/readyz",
        *([f"  Metrics   {prometheus} (Prometheus)"] if prometheus else []),
        f"  CA        {values[outputs.CA_FILE]}",
        "",
        "Try next:",
        *(f"  {command:<{width}}  # {what}" for command, what in commands.items()),
    ]


def _addresses(values: dict[str, Any]) -> str:
    """Return the address of Postgres. On Docker, each replica can become the primary."""
    others = values.get(outputs.POSTGRES_REPLICAS, ()) if values[outputs.TARGET] != "aws" else ()
    return ", ".join(f"{each['host']}:{int(each['port'])}" for each in (values[outputs.POSTGRES], *others))

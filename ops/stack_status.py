"""What runs, and what to try next: read from Docker and a stack's outputs, as rows and as text."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from infra import outputs
from infra.spec import monitoring
from infra.spec.world import World
from ops.errors import Exit, OpsError

# What every stack has; monitoring is there where a setting says so.
SERVICES = ("postgres", "redis", "access")
ALL_SERVICES = (*SERVICES, *monitoring.SERVICES)


def container_rows(world: World, stack: str) -> list[dict[str, Any]]:
    """One row a container of the stack that exists: service, name, health, address, memory limit, since.

    OpsError (7) for a stack on AWS, which has none.
    """
    refuse_on_aws(world, stack)
    names = {world.name(stack, service): service for service in ALL_SERVICES}
    try:
        done = subprocess.run(
            ["docker", "container", "inspect", *names], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise OpsError("docker is not on PATH; run `make up`", Exit.UNREACHABLE) from error
    if "Cannot connect" in done.stderr:
        raise OpsError("the Docker engine does not answer; `make up` starts it", Exit.UNREACHABLE)
    rows = []
    for container in json.loads(done.stdout or "[]"):
        state = container["State"]
        bindings = container["HostConfig"]["PortBindings"] or {}
        addresses = [f"{b['HostIp']}:{b['HostPort']}" for entry in bindings.values() for b in entry or ()]
        rows.append(
            {
                "service": names[container["Name"].lstrip("/")],
                "container": container["Name"].lstrip("/"),
                "health": state.get("Health", {}).get("Status", state["Status"])
                if state["Running"]
                else state["Status"],
                "address": ", ".join(addresses),
                "memoryLimitBytes": container["HostConfig"]["Memory"],
                "isRunning": state["Running"] and not state["Paused"],
                "startedAt": state["StartedAt"],
                "restarts": container["RestartCount"],
            }
        )
    return sorted(rows, key=lambda row: ALL_SERVICES.index(row["service"]))


def refuse_on_aws(world: World, stack: str) -> None:
    """OpsError (7) where a command works in containers and the stack has none."""
    from ops.pulumi_stack import PulumiStack

    target = PulumiStack(world, stack)
    if target.exists and target.public_outputs().get(outputs.TARGET) == "aws":
        raise OpsError(
            f"stack {stack!r} is on AWS and has no containers here; its logs are in CloudWatch, below"
            f" /groundwork/{stack}, and its servers are reached from inside the VPC (docs/aws.md)",
            Exit.REFUSED,
        )


def require_well(rows: list[dict[str, Any]], stack: str) -> None:
    """OpsError (6) where a part of the stack is not healthy, or not there."""
    up = f"`groundwork up --stack {stack}`"
    if not rows:
        raise OpsError(f"stack {stack!r} is not up; {up} brings it up", Exit.UNREACHABLE)
    there = [row["service"] for row in rows]
    ill = [f"{row['service']} is {row['health']}" for row in rows if row["health"] != "healthy"]
    ill += [f"{service} is not there" for service in SERVICES if service not in there]
    if ill:
        raise OpsError(
            f"stack {stack!r}: {', '.join(ill)}; `groundwork logs --stack {stack}` says why, {up} brings back what"
            " is gone",
            Exit.UNREACHABLE,
        )


def render(rows: list[dict[str, Any]]) -> str:
    """The rows as a table people read."""
    width = max(len(row["service"]) for row in rows) + 2
    lines = [f"{'service':<{width}}{'health':<11}{'address':<18}{'memory':>7}  container"]
    for row in rows:
        memory = f"{row['memoryLimitBytes'] // 1024**2}MB"
        lines.append(
            f"{row['service']:<{width}}{row['health']:<11}{row['address']:<18}{memory:>7}  {row['container']}"
        )
    lines += [
        f"Prometheus: http://{row['address']} (alerts: /alerts)"
        for row in rows
        if row["service"] == monitoring.PROMETHEUS
    ]
    return "\n".join(lines)


def next_steps(values: dict[str, Any], stack: str, seconds: float) -> str:
    """What `up` ends with: where everything is, and what to try. No secret is printed."""
    database, cache = values[outputs.POSTGRES], values[outputs.REDIS]
    option = "" if stack == "dev" else f" --stack {stack}"
    variable = "" if stack == "dev" else f" STACK={stack}"
    on_aws = {
        f".venv/bin/groundwork status{option}": "what AWS says of its servers and tasks",
        f".venv/bin/groundwork backup{option}": "take a snapshot; `backup list` shows those there are",
        f".venv/bin/groundwork env --role app{option}": "DATABASE_URL and REDIS_URL, without passwords",
    }
    commands = (
        on_aws
        if values[outputs.TARGET] == "aws"
        else {
            f".venv/bin/groundwork seed{option}": "load sample data",
            f"make psql{variable}": "look at it",
            f".venv/bin/groundwork backup{option}": "take a backup; `backup list` shows those there are",
            f".venv/bin/groundwork env --role app{option}": "DATABASE_URL and REDIS_URL of an application",
        }
    )
    width = max(len(command) for command in commands)
    prometheus = values.get(outputs.PROMETHEUS_URL)
    return "\n".join(
        [
            "",
            f"Stack {stack!r} is up ({seconds:.1f} s).",
            f"  Postgres  {database['host']}:{database['port']}, database groundwork (TLS, verify-full)",
            f"  Redis     {cache['host']}:{cache['port']} (TLS)",
            f"  Access    {values[outputs.ACCESS_URL]}/readyz",
            *([f"  Metrics   {prometheus} (Prometheus)"] if prometheus else []),
            f"  CA        {values[outputs.CA_FILE]}",
            "",
            "Try next:",
            *(f"  {command:<{width}}  # {what}" for command, what in commands.items()),
        ]
    )

"""Measure an idle stack: CPU seconds of its containers and of the Docker engine over a minute, and the memory in use.

CPU seconds do not depend on the load of the machine. Other work of the engine in that minute is counted too.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from infra.docker.engine import inspect
from ops.stack.stack_status import ALL_SERVICES
from tests.bench.result import Result
from tests.infra.checkout import CheckoutCopy

SECONDS = 60
DEV_PERCENT, MONITORED_PERCENT, REPLICATED_PERCENT = 2.0, 5.0, 10.0
# The write-ahead log of `up` is archived within a minute.
_SETTLE_SECONDS = 60
_ENGINE = ("dockerd", "containerd")
# One process for each container, and one for each published port.
_ENGINE_PARTS = ("containerd-shim", "docker-proxy")


def measure() -> list[Result]:
    """Return the idle stack's rows of the table."""
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        checkout = CheckoutCopy.copy_to(Path(folder))
        try:
            checkout.settings()
            checkout.succeed("up")
            dev = _idle(checkout, "idle dev stack, containers and engine", DEV_PERCENT)
            dev_memory = _memory(checkout, "memory of an idle dev stack")
            checkout.settings(monitoring="true")
            checkout.succeed("up")
            monitored = _idle(checkout, "the same with monitoring", MONITORED_PERCENT)
            checkout.settings(postgresReplicas=2, redisReplicas=2)
            checkout.succeed("up")
            replicated = _idle(checkout, "idle stack with replicas of Postgres and Redis", REPLICATED_PERCENT)
            return [dev, monitored, replicated, dev_memory, _memory(checkout, "its memory with replicas")]
        finally:
            checkout.run("down", "--volumes", "--yes")


def _idle(checkout: CheckoutCopy, name: str, at_most: float) -> Result:
    time.sleep(_SETTLE_SECONDS)
    before, started = _cpu_seconds(checkout), time.monotonic()
    time.sleep(SECONDS)
    after, elapsed = _cpu_seconds(checkout), time.monotonic() - started
    percent = {part: (after[part] - before[part]) / elapsed * 100 for part in after}
    note = ", ".join(f"{part} {value:.2f}" for part, value in percent.items())
    return Result(name, [sum(percent.values())], "% of a core", at_most=at_most, note=note)


def _memory(checkout: CheckoutCopy, name: str) -> Result:
    found = {
        each["Config"]["Hostname"]: container_bytes(each["State"]["Pid"]) for each in _containers(checkout)
    }
    note = ", ".join(f"{service} {value / 1024**2:.0f}" for service, value in found.items())
    return Result(name, [sum(found.values()) / 1024**2], "MB", note=f"{len(found)} containers: {note}")


def _containers(checkout: CheckoutCopy) -> list[dict[str, Any]]:
    return inspect("container", *(checkout.identity.name("dev", service) for service in ALL_SERVICES))


def _cpu_seconds(checkout: CheckoutCopy) -> dict[str, float]:
    """Return the CPU seconds so far, by service and of the engine.

    A health check runs in the container's group, and is a child of the container's shim. It is counted once.
    """
    found = _containers(checkout)
    seconds, checks = {}, 0.0
    for container in found:
        total, own = container_seconds(container["State"]["Pid"])
        seconds[container["Config"]["Hostname"]] = total
        checks += total - own
    ports = {
        b["HostPort"] for c in found for bs in (c["HostConfig"]["PortBindings"] or {}).values() for b in bs
    }
    return seconds | {"engine": _engine_seconds({c["Id"] for c in found} | ports) - checks}


def container_seconds(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a container's control group, and of the processes that its init started."""
    group, is_unified = _group(pid, "cpuacct")
    if is_unified:
        total = int((group / "cpu.stat").read_text().split()[1]) / 1e6
    else:
        total = int((group / "cpuacct.usage").read_text()) / 1e9
    processes = (Path("/proc", number) for number in (group / "cgroup.procs").read_text().split())
    return total, sum(_process_seconds(folder)[1] for folder in processes)


def container_bytes(pid: int) -> int:
    """Return the memory of a container's control group as `docker stats` counts it, without inactive files."""
    group, is_unified = _group(pid, "memory")
    used, inactive = (
        ("memory.current", "inactive_file")
        if is_unified
        else ("memory.usage_in_bytes", "total_inactive_file")
    )
    pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int((group / used).read_text()) - int(dict(pairs)[inactive])


def _group(pid: int, controller: str) -> tuple[Path, bool]:
    """Return a process's control group, and whether the unified hierarchy has this controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}"), False
    return Path(f"/sys/fs/cgroup{path}"), True


def _engine_seconds(ours: set[str]) -> float:
    """Return the CPU seconds of the engine's processes and of their children that ended."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        name, seconds = _process_seconds(folder)
        if name in _ENGINE or (name in _ENGINE_PARTS and ours & _command_line(folder)):
            total += seconds
    return total


def _process_seconds(folder: Path) -> tuple[str, float]:
    """Return a process's name and its CPU seconds with those of its ended children. A process that is gone has none."""
    try:
        name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return "", 0.0
    return name, sum(int(ticks) for ticks in rest.split()[11:15]) / os.sysconf("SC_CLK_TCK")


def _command_line(folder: Path) -> set[str]:
    try:
        return set((folder / "cmdline").read_text().split("\0"))
    except OSError:
        return set()

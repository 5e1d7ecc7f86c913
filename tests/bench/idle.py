"""Measure an idle stack: CPU seconds of its containers and of the Docker engine, over a minute.

CPU seconds do not depend on the load of the machine. Other work of the engine in that minute is counted too.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from infra.docker.engine import inspect
from ops.stack.stack_status import ALL_SERVICES
from tests.bench.result import Result
from tests.infra.checkout import CheckoutCopy

SECONDS = 60
DEV_PERCENT, MONITORED_PERCENT = 2.0, 5.0
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
            checkout.settings(monitoring="true")
            checkout.succeed("up")
            return [dev, _idle(checkout, "the same with monitoring", MONITORED_PERCENT)]
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


def _cpu_seconds(checkout: CheckoutCopy) -> dict[str, float]:
    """Return the CPU seconds so far, by service and of the engine.

    A health check runs in the container's group, and is a child of the container's shim. It is counted once.
    """
    found = inspect("container", *(checkout.identity.name("dev", service) for service in ALL_SERVICES))
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
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            group = Path(f"/sys/fs/cgroup/cpuacct{path}")
            total = int((group / "cpuacct.usage").read_text()) / 1e9
            break
    else:
        group = Path(f"/sys/fs/cgroup{path}")
        total = int((group / "cpu.stat").read_text().split()[1]) / 1e6
    processes = (Path("/proc", number) for number in (group / "cgroup.procs").read_text().split())
    return total, sum(_process_seconds(folder)[1] for folder in processes)


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

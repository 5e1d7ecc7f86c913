"""A container's network namespace: its address, and firewall rules in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from infra.docker.engine import inspect
from tests.containers import Server

# iptables targets: no answer, or a TCP reset.
DROP = ["DROP"]
RESET = ["REJECT", "--reject-with", "tcp-reset"]


def address(server: Server) -> str:
    """Return the container's own address. At the published port, Docker's proxy would answer."""
    (container,) = inspect("container", server.container)
    return str(container["NetworkSettings"]["IPAddress"])


@contextmanager
def firewall(server: Server, port: int, verdict: list[str]) -> Iterator[None]:
    """Apply `verdict` to every packet to this port of the container. Skips the test if that is not possible here."""
    _require_iptables()
    rule = ["INPUT", "--protocol", "tcp", "--dport", str(port), "--jump", *verdict]
    _iptables(server.container, "--insert", *rule)
    try:
        yield
    finally:
        _iptables(server.container, "--delete", *rule)


@contextmanager
def cut_off(container: str, addresses: Sequence[str]) -> Iterator[None]:
    """Drop every packet between the container and these addresses. Skips the test if that is not possible here."""
    _require_iptables()
    peers = ",".join(addresses)
    rules = (["INPUT", "--source", peers], ["OUTPUT", "--destination", peers])
    for rule in rules:
        _iptables(container, "--insert", *rule, "--jump", *DROP)
    try:
        yield
    finally:
        for rule in rules:
            _iptables(container, "--delete", *rule, "--jump", *DROP)


def _require_iptables() -> None:
    if os.geteuid() != 0 or not (shutil.which("nsenter") and shutil.which("iptables")):
        pytest.skip("a container's firewall needs root, nsenter and iptables")


def _iptables(container: str, *arguments: str) -> None:
    (found,) = inspect("container", container)
    inside = ["nsenter", "--target", str(found["State"]["Pid"]), "--net"]
    subprocess.run([*inside, "iptables", "--wait", *arguments], check=True, capture_output=True, timeout=30)

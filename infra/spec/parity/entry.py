"""An entry of the comparison, and the reasons that many entries share."""

from __future__ import annotations

from dataclasses import dataclass

# Marks a target that has no such setting or property.
NONE = "—"


@dataclass(frozen=True)
class Parity:
    """A row of the comparison, in Markdown. `why` is the reason for a difference, and empty if there is none."""

    docker: str
    aws: str
    why: str = ""


def same(text: str) -> Parity:
    """Return a row with the same text for both targets."""
    return Parity(text, text)


ONE_MACHINE = "a container has a memory limit; on AWS each size has a fixed amount of memory"
PORT = "on AWS no ports are published on a machine, and security groups control access"
CLOUDWATCH = "on AWS, CloudWatch does this, and does not depend on the stack"
PLACE = "one machine has no regions, zones or VPCs"
ONE_SERVER = "a second container on the same machine would fail together with the first"
MANAGED = "AWS maintains the servers, during the configured windows"

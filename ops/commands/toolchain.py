"""`groundwork toolchain`: puts in place what groundwork needs beside Python, and says what was taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ops.errors import Exit

if TYPE_CHECKING:
    from ops.toolchain.inventory import Tool


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 3 if something is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def toolchain(check: bool, as_json: bool) -> None:
    """Find, download or build the Pulumi CLI, its plugins, the Docker engine and the base image."""
    from infra.spec.world import World
    from ops.toolchain.provision import ensure, inspect

    world = World.here()
    tools = inspect(world) if check else ensure(world).tools
    print(as_json_text(tools) if as_json else as_table(tools))
    if any(tool.source == "missing" for tool in tools):
        sys.exit(Exit.PENDING)


def as_json_text(tools: Sequence[Tool]) -> str:
    return json.dumps({"tools": [tool.as_json() for tool in tools]}, indent=2)


def as_table(tools: Sequence[Tool]) -> str:
    """One line a tool: name, version, what it was taken from and in which time, where it is."""
    rows = [
        (
            tool.name,
            tool.version,
            f"{tool.source} in {tool.seconds:.0f} s" if tool.seconds >= 0.5 else str(tool.source),
            tool.where,
        )
        for tool in tools
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:3]]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    )

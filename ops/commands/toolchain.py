"""`groundwork toolchain`: install what groundwork needs besides Python, and show where it came from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ops.errors import Exit
from ops.output import print_json, print_lines

if TYPE_CHECKING:
    from ops.toolchain.inventory import Tool


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 3 if something is missing")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def toolchain(check: bool, as_json: bool) -> None:
    """Install the tools that groundwork needs besides Python

    Finds, downloads or builds the Pulumi CLI, its plugins, the Docker engine and the base image.
    """
    from infra.spec.checkout import Checkout
    from ops.toolchain.provision import ensure, inspect

    checkout = Checkout.here()
    tools = inspect(checkout) if check else ensure(checkout).tools
    print_json({"tools": [tool.as_json() for tool in tools]}) if as_json else print_lines(as_table(tools))
    if any(tool.source == "missing" for tool in tools):
        sys.exit(Exit.PENDING)


def as_table(tools: Sequence[Tool]) -> list[str]:
    """Return one line per tool: name, version, source with the time it took, and path."""
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
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    ]

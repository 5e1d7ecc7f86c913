"""Render docs/cli-reference.md from the commands' own help.

`python -m scripts.render_cli` writes the page, and `--check` exits 1 if the page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ops.cli import cli

PAGE = Path(__file__).parents[1] / "docs" / "cli-reference.md"
# A bar would end a cell of a table.
BAR = r"\|"
_HEAD = """\
# Command reference

This page lists every command of `groundwork` with its options, as `--help` prints them. Read it to look up an option;
[cli.md](cli.md) has an overview, the exit codes and the variables.

    .venv/bin/groundwork migrate up --help

Every command also has `-h` and `--help`. Rendered from the code by `make fix`.
"""


def page() -> str:
    """Return the page's text."""
    context = click.Context(cli, info_name="groundwork")
    sections = [_HEAD.strip()]
    for command, command_context in _commands(cli, context):
        sections += _section(command, command_context)
    return "\n\n".join(sections) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield the commands of a group that can be run, and those of its groups."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        is_group = isinstance(command, click.Group)
        if not is_group or command.invoke_without_command:
            yield command, inner
        if is_group:
            yield from _commands(command, inner)


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}"
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    if command.help:
        yield "\n\n".join(" ".join(part.split()) for part in command.help.split("\n\n"))
    records = [
        record
        for parameter in command.get_params(context)
        if "--help" not in parameter.opts and (record := parameter.get_help_record(context))
    ]
    if records:
        rows = [f"| `{option}` | {_cell(text)} |" for option, text in records]
        yield "\n".join(["| option | meaning |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", BAR)


def main() -> int:
    text = page()
    is_stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
    if is_stale:
        check = "--check" in sys.argv
        print(f"cli: {'stale' if check else 'rendered'}: docs/{PAGE.name}")
        if check:
            return 1
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

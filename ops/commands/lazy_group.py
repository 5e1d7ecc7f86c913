"""A click group that imports a subcommand only when it is called, which keeps `--help` fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """A group whose commands are in other modules: name -> (module, attribute, help line).

    The help lines are part of the table so that `--help` imports none of the modules. Commands added with
    `@group.command()` are listed after those of the table.
    """

    def __init__(self, *args: Any, elsewhere: Mapping[str, tuple[str, str, str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._elsewhere, *(name for name in self.commands if name not in self._elsewhere)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = self._elsewhere[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = {name: line for name, (_, _, line) in self._elsewhere.items()}
        rest = {name: command.get_short_help_str(100) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, (lines | rest)[name]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table, without imports, and then options as every group does."""
        from click.shell_completion import CompletionItem

        lines = {name: line for name, (_, _, line) in self._elsewhere.items()}
        found = [
            CompletionItem(name, help=line) for name, line in lines.items() if name.startswith(incomplete)
        ]
        for name, command in self.commands.items():
            if name.startswith(incomplete) and not command.hidden:
                found.append(CompletionItem(name, help=command.get_short_help_str()))
        # Bypasses click.Group.shell_complete, which imports every command to get its help.
        return found + click.Command.shell_complete(self, ctx, incomplete)

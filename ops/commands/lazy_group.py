"""A click group that imports a subcommand only when it is called, which keeps `--help` fast."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from infra.spec.variables import refuse_empty_variables
from ops.errors import Exit, OpsError

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        # Every command is reached through here, so a new option or variable needs no check of its own.
        if command is not None and not ctx.resilient_parsing:
            refuse_empty_variables()
            _check_given(command, name, ctx, rest)
        return name, command, rest

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


def _check_given(
    command: click.Command, name: str | None, parent: click.Context, arguments: list[str]
) -> None:
    """Raise OpsError (2) for an option or argument that is given but empty, given twice, or ignored by a subcommand.

    Arguments for other programs may be empty.
    """
    context = click.Context(command, parent, name, **command.context_settings)
    given, rest, order = command.make_parser(context).parse_args(list(arguments))
    for parameter in command.get_params(context):
        value = given.get(parameter.name or "")
        values = value if isinstance(value, (list, tuple)) else (value,)
        is_ours = parameter.type is not click.UNPROCESSED
        if is_ours and any(isinstance(each, str) and not each.strip() for each in values):
            shown = (
                parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            )
            raise OpsError(f"{shown} is given but empty; omit it, or pass a value", Exit.USAGE)
    _refuse_repeated(order)
    # A LazyGroup checks its own commands.
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup) and rest:
        inner = command.get_command(context, rest[0])
        if inner is not None:
            _refuse_ignored(inner, f"{name} {rest[0]}", order, given, rest[1:])
            _check_given(inner, rest[0], context, rest[1:])


def _refuse_repeated(order: Sequence[click.Parameter]) -> None:
    """Raise OpsError (2) for an option whose later value would silently replace an earlier one.

    `order` has the parameters as they are given. The same flag twice means the same as once.
    """
    seen: dict[str | None, click.Option] = {}
    for option in order:
        if not isinstance(option, click.Option) or option.multiple or option.count:
            continue
        first = seen.get(option.name)
        seen[option.name] = option
        if first is option and not option.is_flag:
            raise OpsError(f"{option.opts[0]} is given twice; pass it once", Exit.USAGE)
        if first is not None and first is not option:
            raise OpsError(
                f"{first.opts[0]} and {option.opts[0]} exclude each other; pass only one", Exit.USAGE
            )


def _refuse_ignored(
    subcommand: click.Command,
    name: str,
    order: Sequence[click.Parameter],
    given: Mapping[str, Any],
    rest: Sequence[str],
) -> None:
    """Raise OpsError (2) for options of a group that are given before its subcommand, which would not get them.

    A group only has options if it is also a command, such as `backup` beside `backup list`.
    """
    ignored = [each for each in order if isinstance(each, click.Option) and each.expose_value]
    if not ignored:
        return
    own = {option for parameter in subcommand.params for option in parameter.opts}
    words = []
    for option in ignored:
        if option.opts[0] not in own:
            raise OpsError(f"`groundwork {name}` has no option {option.opts[0]}; omit it", Exit.USAGE)
        words += [option.opts[0]] if option.is_flag else [option.opts[0], str(given[option.name or ""])]
    corrected = shlex.join(["groundwork", *name.split(), *words, *rest])
    raise OpsError(
        f"`groundwork {name}` ignores {ignored[0].opts[0]} before its name; write it after the name: `{corrected}`",
        Exit.USAGE,
    )

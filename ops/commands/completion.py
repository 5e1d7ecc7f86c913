"""`groundwork completion`: print click's completion script for a shell."""

from __future__ import annotations

import click

from ops.output import print_lines


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script

    Usage: eval "$(groundwork completion bash)", see docs/cli.md.
    """
    from click.shell_completion import get_completion_class

    from ops.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click supports all three shells"
    script = kind(cli, {}, "groundwork", "_GROUNDWORK_COMPLETE")
    print_lines((script.source_template % script.source_vars()).split("\n"))

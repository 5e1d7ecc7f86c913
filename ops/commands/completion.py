"""`groundwork completion`: the script that lets a shell complete commands, options and names; click makes it."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script: eval "$(groundwork completion bash)" (docs/cli.md)."""
    from click.shell_completion import get_completion_class

    from ops.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    script = kind(cli, {}, "groundwork", "_GROUNDWORK_COMPLETE")
    click.echo(script.source_template % script.source_vars())

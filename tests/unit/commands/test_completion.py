"""What a shell is told: the script, and by click's protocol the names it may complete, without slow imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from db.cached_kinds import KINDS
from infra.outputs import ROLES as STACK_ROLES
from ops.cli import COMMANDS, cli
from ops.commands.names import CACHED_ENTITIES, ROLES
from tests.unit.documentation.pages import ROOT

COMPLETE = """
import sys
sys.argv[0] = "groundwork"
from ops.cli import main
try:
    main([])
finally:
    slow = {"psycopg", "pulumi", "redis", "rich", "msgspec"} & {name.partition(".")[0] for name in sys.modules}
    print("slow:", *sorted(slow), file=sys.stderr)
"""


def complete(shell: str, *words: str) -> tuple[list[str], str]:
    """What click's protocol answers for the last of the words, and what was imported for it."""
    line = " ".join(["groundwork", *words])
    variables = {"_GROUNDWORK_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
    variables["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words))
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        env=os.environ | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.strip()


def names(lines: list[str]) -> list[str]:
    return [line.partition(",")[2] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_the_protocol(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"_GROUNDWORK_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_takes(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_shell_exits_with_2() -> None:
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_completed_and_none_imported(shell: str) -> None:
    lines, imported = complete(shell, "")
    found = lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines]
    assert found == [*COMMANDS]
    assert imported == "slow:"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ca"], ["cache"]),
        (["cache", ""], ["flush", "get", "keys", "stats", "warm"]),
        (["cache", "flush", "--en"], ["--entity"]),
        (["cache", "flush", "--entity", "user"], ["user", "user_feed"]),
        (["cache", "get", ""], [*CACHED_ENTITIES]),
        (["env", "--role", "m"], ["monitor", "migrator"]),
        (["up", "--stack", "d"], ["dev"]),
        (["cache", "stats", "--stack", "d"], ["dev"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_names_are_completed_where_the_line_says(words: list[str], expected: list[str]) -> None:
    lines, imported = complete("bash", *words)
    assert names(lines) == expected
    assert imported == "slow:"


def test_the_names_are_those_there_are() -> None:
    assert tuple(KINDS) == CACHED_ENTITIES
    assert tuple(STACK_ROLES) == ROLES


def _options(command: click.Command, path: str = "groundwork") -> Iterator[tuple[str, click.Parameter]]:
    for parameter in command.params:
        yield path, parameter
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from _options(sub, f"{path} {name}")


@pytest.mark.parametrize(
    ("path", "option"),
    [(path, option) for path, option in _options(cli) if option.name == "stack"],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_stack_option_completes_stacks(path: str, option: click.Parameter) -> None:
    """Take ops.commands.names.stack_option for it."""
    found = option.shell_complete(click.Context(cli), "")
    assert {item.value for item in found} >= {"dev", "test"}

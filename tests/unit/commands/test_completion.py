"""Shell completion: the script, and the completed names over click's protocol, without slow imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from db.cached_kinds import KINDS
from db.entities import CACHED
from infra.outputs import ROLES as STACK_ROLES
from ops.cli import COMMANDS, cli
from ops.commands.names import ROLES
from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation.pages import ROOT

# Answers one request after another, as if each had a new process, and finally prints what it has imported.
COMPLETE = """
import contextlib, io, json, os, sys
sys.argv[0] = "groundwork"
from ops.cli import main
answers = []
for variables in json.load(sys.stdin):
    os.environ.update(variables)
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([])
    answers.append(out.buffer.getvalue().decode().splitlines())
slow = {"psycopg", "pulumi", "redis", "rich", "msgspec"} & {name.partition(".")[0] for name in sys.modules}
print(json.dumps([answers, sorted(slow)]))
"""


def complete(*questions: tuple[str, list[str]]) -> tuple[list[list[str]], list[str]]:
    """Return click's completions for the last word of each line, and the slow modules that were imported."""
    asked = [
        {
            "_GROUNDWORK_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(["groundwork", *words]),
            "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
        }
        for shell, words in questions
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        cwd=ROOT,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers, slow = json.loads(done.stdout)
    return answers, slow


def names(lines: list[str]) -> list[str]:
    return [line.partition(",")[2] for line in lines]


def test_the_script_calls_the_protocol() -> None:
    for shell in ("bash", "zsh", "fish"):
        with in_case(shell):
            done = CliRunner().invoke(cli, ["completion", shell])
            assert done.exit_code == 0
            assert f"_GROUNDWORK_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_accepts_the_script(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_shell_exits_with_2() -> None:
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


@promise("a shell completes commands, stacks and names without importing them")
def test_every_command_is_completed_without_importing_it() -> None:
    (bash, zsh, fish), imported = complete(("bash", [""]), ("zsh", [""]), ("fish", [""]))
    assert names(bash) == [*COMMANDS]
    assert zsh[1::3] == [*COMMANDS]
    assert [name.partition("\t")[0] for name in names(fish)] == [*COMMANDS]
    assert imported == []


def test_names_are_completed_at_the_right_positions() -> None:
    lines: list[tuple[list[str], list[str]]] = [
        (["ca"], ["cache"]),
        (["cache", ""], ["flush", "get", "keys", "stats", "warm"]),
        (["cache", "flush", "--en"], ["--entity"]),
        (["cache", "flush", "--entity", "user"], [name for name in CACHED if name.startswith("user")]),
        (["cache", "get", ""], [*CACHED]),
        (["env", "--role", "m"], ["monitor", "migrator"]),
        (["up", "--stack", "d"], ["dev"]),
        (["cache", "stats", "--stack", "d"], ["dev"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ]
    answers, imported = complete(*(("bash", words) for words, _ in lines))
    for (words, expected), answer in zip(lines, answers, strict=True):
        assert names(answer) == expected, words
    assert imported == []


def test_the_names_exist() -> None:
    assert tuple(KINDS) == CACHED
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


def test_every_stack_option_completes_stacks() -> None:
    """Use ops.commands.names.stack_option for every such option."""
    for path, option in _options(cli):
        if option.name == "stack":
            found = option.shell_complete(click.Context(cli), "")
            assert {item.value for item in found} >= {"dev", "test"}, path

"""An option, an argument or a variable that is given but empty is refused. It used to select the default."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ops.cli import cli, main
from ops.errors import Exit
from tests.promises import promise

ROOT = Path(__file__).parents[3]
# Options and arguments that other programs receive.
PASSED_ON = {("psql", "arguments"), ("redis-cli", "arguments"), ("test-servers", "arguments")}


def parameters(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Yield every parameter that takes a value, with the command line up to its value."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        words = (*path, name)
        arguments = 0
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield (*words, *["1"] * arguments), parameter
                arguments += 1
            elif not (isinstance(parameter, click.Option) and parameter.is_flag):
                yield (*words, parameter.opts[0]), parameter
        if isinstance(command, click.Group):
            yield from parameters(command, words)


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the only line of output of a command that exits with 2."""
    with pytest.raises(SystemExit) as over:
        main(list(arguments))
    out, err = capfd.readouterr()
    assert (over.value.code, out) == (Exit.USAGE, ""), arguments
    (line,) = err.splitlines()
    return str(line)


@promise("an option, an argument or a variable that is given but empty is refused in one line")
@pytest.mark.parametrize("empty", ["", "  "], ids=["nothing", "blanks"])
def test_every_option_and_argument_refuses_an_empty_value(
    capfd: pytest.CaptureFixture[str], empty: str
) -> None:
    checked = 0
    for words, parameter in parameters():
        if (words[0], parameter.name) in PASSED_ON:
            continue
        line = refusal(capfd, *words, empty)
        name = words[-1] if isinstance(parameter, click.Option) else parameter.human_readable_name
        assert line == f"groundwork: {name} is given but empty; omit it, or pass a value", words
        checked += 1
    assert checked > 100


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("migrate", "down", "--yes", "--url="), "--url"),
        (("migrate", "up", "--url", "postgresql://localhost/x", "--folder", ""), "--folder"),
        (("cache", "flush", "--yes", "--entity", "user", "--entity", ""), "--entity"),
        (("psql", "--role", "", "-c", "SELECT 1"), "--role"),
        (("import", "gharchive", "a.json", ""), "FILES"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_empty_value_is_found_wherever_it_is(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], name: str
) -> None:
    assert refusal(capfd, *arguments) == f"groundwork: {name} is given but empty; omit it, or pass a value"


def test_psql_receives_an_empty_argument(capfd: pytest.CaptureFixture[str]) -> None:
    # psql and redis-cli decide themselves what an empty argument means. Here the stack is what does not exist.
    assert "unknown stack 'no-such'" in refusal(capfd, "psql", "--stack", "no-such", "-c", "")


def variables() -> list[str]:
    """Return the variables that the code and the page of the commands name."""
    texts = [
        path.read_text()
        for folder in ("infra", "ops", "db", "cache")
        for path in (ROOT / folder).rglob("*.py")
    ]
    code = re.findall(r'"(GROUNDWORK_[A-Z_]+)"', "\n".join(texts))
    page = (ROOT / "docs/cli.md").read_text().partition("## Variables")[2]
    return sorted({*code, *re.findall(r"`([A-Z]+_[A-Z_]+)`", page)})


@promise("an option, an argument or a variable that is given but empty is refused in one line")
def test_every_variable_refuses_an_empty_value(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = variables()
    assert {"DATABASE_URL", "REDIS_URL_FILE", "DOCKER_HOST", "GROUNDWORK_STATE", "GROUNDWORK_POOL_SIZE"} <= {
        *names
    }
    for name in names:
        with monkeypatch.context() as patch:
            patch.setenv(name, "")
            line = refusal(capfd, "migrate", "down", "--yes")
        assert line == f"groundwork: {name} is set but empty; unset it, or give it a value"


@promise("an option, an argument or a variable that is given but empty is refused in one line", control=True)
def test_click_alone_takes_an_empty_folder_for_the_current_one() -> None:
    command = click.Command("x", params=[click.Option(["--folder"], type=click.Path(path_type=Path))])
    context = command.make_context("x", ["--folder", ""])
    assert context.params == {"folder": Path()}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_variable_of_the_makefile_refuses_an_empty_value() -> None:
    text = (ROOT / "Makefile").read_text()
    used = {*re.findall(r"\$\((?:if|or) \$\(([A-Z]+)\)", text), "PYTHON"}
    assert {"STACK", "STACKS", "VOLUMES", "K"} <= used
    for name in sorted(used):
        ended = subprocess.run(
            ["make", "--dry-run", "status", f"{name}="], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (2, ""), name
        assert f"groundwork: {name} is given but empty; omit it, or give it a value" in ended.stderr

"""An option is refused if it has one value and is given twice, or if a subcommand after it would ignore it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from ops.cli import cli, main
from ops.errors import Exit
from tests.promises import promise
from tests.unit.commands.test_empty_values import PASSED_ON, parameters, refusal


@promise("an option that has one value is refused if it is given twice")
def test_every_option_with_one_value_is_refused_if_it_is_given_twice(
    capfd: pytest.CaptureFixture[str],
) -> None:
    checked = 0
    for words, parameter in parameters():
        if (
            isinstance(parameter, click.Argument)
            or parameter.multiple
            or (words[0], parameter.name) in PASSED_ON
        ):
            continue
        line = refusal(capfd, *words, "1", words[-1], "2")
        assert line == f"groundwork: {words[-1]} is given twice; pass it once", words
        checked += 1
    assert checked > 100


@promise("an option that has one value is refused if it is given twice")
def test_flags_that_choose_one_value_exclude_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    line = refusal(capfd, "backup", "--full", "--incremental")
    assert line == "groundwork: --full and --incremental exclude each other; pass only one"


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (
            "chaos --stack staging stop",
            "`groundwork chaos stop` ignores --stack before its name; write it after the name:"
            " `groundwork chaos stop --stack staging`",
        ),
        (
            "backup --json --stack staging list --timeline 3",
            "`groundwork backup list` ignores --json before its name; write it after the name:"
            " `groundwork backup list --json --stack staging --timeline 3`",
        ),
        ("chaos --dry-run stop", "`groundwork chaos stop` has no option --dry-run; omit it"),
        ("chaos --stack a --for 5m stop", "`groundwork chaos stop` has no option --for; omit it"),
        ("backup --full list", "`groundwork backup list` has no option --full; omit it"),
    ],
)
def test_an_option_before_a_subcommand_that_ignores_it_is_refused(
    given: str, refused: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capfd, *given.split()) == f"groundwork: {refused}"


def test_every_group_with_options_is_also_a_command() -> None:
    def groups(group: click.Group) -> Iterator[click.Group]:
        yield group
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            if isinstance(command, click.Group):
                yield from groups(command)

    # Others would need their options before the subcommand, where they are refused.
    found = {each.name for each in groups(cli) if any(option.expose_value for option in each.params)}
    assert found == {each.name for each in groups(cli) if each.invoke_without_command} == {"backup", "chaos"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate", "lint", "--rule", "no-such", "--rule", "none"),
        ("doctor", "--json", "--json", "--only", "no-such", "--only", "none"),
        ("psql", "--stack", "no-such", "-c", "SELECT 1", "-c", "SELECT 2"),
    ],
    ids=" ".join,
)
def test_repeatable_options_flags_and_options_of_other_programs_may_repeat(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as over:
        main(list(arguments))
    err = capfd.readouterr().err
    assert over.value.code == Exit.USAGE
    assert "no-such" in err
    assert "twice" not in err

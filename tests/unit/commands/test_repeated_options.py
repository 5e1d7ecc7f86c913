"""An option that has one value is refused if it is given twice. The last value used to count."""

from __future__ import annotations

import click
import pytest

from ops.cli import main
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

"""An option that is a number refuses what is not finite or out of its range with exit code 2."""

from __future__ import annotations

import click
import pytest

from ops.cli import main
from ops.errors import Exit
from tests.unit.commands.test_empty_values import parameters


def accepts(parameter: click.Parameter, value: str) -> bool:
    try:
        parameter.type.convert(value, parameter, None)
    except click.BadParameter as refused:
        return "is not in the range" not in refused.message
    return True


def test_every_option_with_a_fraction_refuses_what_is_not_finite() -> None:
    of_fractions = [each for each in parameters() if isinstance(each[1].type, click.types.FloatParamType)]
    assert len(of_fractions) > 10
    values = ("nan", "-nan", "inf", "-inf", "1e400")
    assert [(*words, value) for words, each in of_fractions for value in values if accepts(each, value)] == []


@pytest.mark.parametrize(
    ("values", "kind"), [(("abc", "1e6", "5.5", "0x10"), "an integer"), (("abc", "1,5", "--"), "a number")]
)
def test_every_range_says_what_the_value_is_not(values: tuple[str, ...], kind: str) -> None:
    base = click.IntRange if kind == "an integer" else click.FloatRange
    ranges = [each for each in parameters() if isinstance(each[1].type, base)]
    assert len(ranges) > 5
    for words, parameter in ranges:
        for value in values:
            with pytest.raises(click.BadParameter, match=f"'{value}' is not {kind}"):
                assert parameter.type.convert(value, parameter, None) is None, words


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["migrate", "up", "--lock-timeout", "nan"], "0.001<=x<=2147483"),
        # Postgres counts in 32 bits of milliseconds.
        (["migrate", "up", "--lock-timeout", "1e9"], "0.001<=x<=2147483"),
        (["migrate", "down", "--wait", "inf"], "0<=x<=2147483"),
        (["migrate", "rehearse", "--budget-ms", "nan"], "x>=0"),
        (["migrate", "rehearse", "--before", "1e9"], "0.5<=x<=2147483"),
        (["rotate", "status", "--days", "10000000000"], "0<=x<=36500"),
        (["backup", "list", "--timeline", "4294967296"], "1<=x<=4294967295"),
        (["logs", "--tail", "-1"], "x>=0"),
    ],
)
def test_the_allowed_range_is_printed(
    capfd: pytest.CaptureFixture[str], words: list[str], allowed: str
) -> None:
    with pytest.raises(SystemExit) as over:
        main(words)
    said = capfd.readouterr().err.splitlines()[-1]
    assert over.value.code == Exit.USAGE
    assert words[-2] in said
    assert said.endswith(f"is not in the range {allowed}.")

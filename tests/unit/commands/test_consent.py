"""Confirmation prompts: when the operator is asked, and what is refused without a terminal."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from ops.commands import migrate_options, rotate
from ops.consent import ask, production_name, require_consent
from ops.errors import Exit, OpsError
from tests.cases import in_case
from tests.promises import promise


@promise("production is not flushed unless its name is given")
def test_a_production_name_is_recognized() -> None:
    cases: list[str] = [
        "prod",
        "production",
        "live",
        "prod-eu",
        "eu-prod",
        "PROD",
        "live2",
        "db.prod.example.org",
        "prd_1",
    ]
    for name in cases:
        with in_case(name):
            assert production_name(["dev", name]) == name


def test_another_name_is_not_a_production_name() -> None:
    cases: list[str] = ["dev", "test", "product", "reproduction", "olive", "deliver", "staging", ""]
    for name in cases:
        with in_case(name):
            assert production_name([name]) is None


def test_a_no_is_a_refusal_and_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[Callable[[], None]] = [
        lambda: ask("Drop it?", yes=False, refusal="cannot drop it"),
        lambda: migrate_options.confirm("Drop it?", yes=False, unasked="cannot drop it"),
        lambda: rotate._confirm("Rotate it?", "it", False),
    ]
    monkeypatch.setattr("ops.consent.sys", _Terminal(True))
    for number, question in enumerate(questions):
        with in_case(number):
            refused = CliRunner().invoke(click.command()(question), input="n\n").exception
            assert isinstance(refused, OpsError)
            assert (str(refused), refused.exit_code) == ("not confirmed; nothing was changed", Exit.REFUSED)


@click.command()
@click.option("--yes", is_flag=True)
@click.option("--confirm")
@click.argument("names", nargs=-1)
def drop(yes: bool, confirm: str | None, names: tuple[str, ...]) -> None:
    require_consent("drop it", yes=yes, confirmed=confirm, names=names)
    click.echo("done")


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str, answer: str | None = None) -> tuple[int, str]:
    """Return the exit code and stdout. With an answer, stdin is a terminal."""
    monkeypatch.setattr("ops.consent.sys", _Terminal(answer is not None))
    result = CliRunner().invoke(drop, arguments, input=answer)
    if isinstance(result.exception, OpsError):
        return result.exception.exit_code, result.stdout
    return result.exit_code, result.stdout


class _Terminal:
    """Replaces sys, to simulate that stdin is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        self.stdin = self
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["dev"], Exit.REFUSED),
        (["dev", "--yes"], Exit.FINE),
        (["prod"], Exit.REFUSED),
        (["prod", "--yes"], Exit.REFUSED),
        (["prod", "--confirm", "prod"], Exit.REFUSED),
        (["prod", "--yes", "--confirm", "dev"], Exit.REFUSED),
        (["prod", "--yes", "--confirm", "prod"], Exit.FINE),
        (["dev", "eu-live", "--yes", "--confirm", "dev"], Exit.REFUSED),
        (["dev", "eu-live", "--yes", "--confirm", "eu-live"], Exit.FINE),
    ],
)
def test_without_a_terminal_the_options_decide(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: Exit
) -> None:
    assert _run(monkeypatch, *arguments) == (code, "done\n" if code == Exit.FINE else "")


@pytest.mark.parametrize(
    ("arguments", "answer", "code"),
    [
        (["dev"], "y\n", 0),
        (["dev"], "n\n", Exit.REFUSED),
        (["prod"], "prod\n", 0),
        (["prod"], "y\n", Exit.REFUSED),
        (["prod", "--yes"], "prod\n", 0),
        (["prod", "--yes"], "dev\n", Exit.REFUSED),
    ],
)
def test_at_a_terminal_a_production_stack_must_be_confirmed_by_name(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], answer: str, code: int
) -> None:
    found, out = _run(monkeypatch, *arguments, answer=answer)
    assert found == code
    assert ("done" in out) == (code == 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "The old ones are revoked 60 s after the new ones are in use."),
        (
            ["--keep-old"],
            "The old ones of app stay accepted until you run the command without --keep-old.",
        ),
    ],
)
def test_the_question_of_a_rotation_says_what_happens_to_the_old_passwords(
    monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    asked: list[str] = []

    def refuse(question: str, **_: object) -> None:
        asked.append(question)
        raise OpsError("not confirmed", Exit.REFUSED)

    monkeypatch.setattr("ops.consent.ask", refuse)
    monkeypatch.setattr(rotate, "_target", lambda _: SimpleNamespace(roles=lambda: ("app",)))
    with pytest.raises(OpsError, match="not confirmed"):
        rotate.rotate.main(["passwords", "app", *options], standalone_mode=False)
    (question,) = asked
    assert says in question
    assert "whatever else is pending: migrations, settings, images" in question

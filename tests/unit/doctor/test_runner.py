"""The runner: what one check meets stops no other, and what is chosen is what is asked."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ops.doctor.checks import CHECKS
from ops.doctor.examination import Check, Examination, Server
from ops.doctor.finding import Finding, Status, fail, ok, warn
from ops.doctor.rendering import as_json, as_text
from ops.doctor.runner import choose, examine, exit_code
from ops.errors import Exit, OpsError
from ops.server_errors import NotVisible, ServerUnreachable, TooSlow
from tests.unit.documentation import pages

NOTHING = cast(Examination, None)


def check(name: str, answer: Any, server: Server = Server.POSTGRES, reaches: bool = False) -> Check:
    def run(_: Examination) -> Finding:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Finding)
        return answer

    return Check(name, server, run, reaches)


def findings(*checks: Check) -> dict[str, Finding]:
    return {c.name: finding for c, finding in examine(NOTHING, checks, checks)}


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ServerUnreachable("gone"), Status.FAIL, "gone"),
        (NotVisible("hidden"), Status.SKIPPED, "hidden"),
        (TooSlow("slow"), Status.SKIPPED, "given up: slow"),
        (OpsError("refused"), Status.FAIL, "refused"),
        (KeyError("x"), Status.FAIL, "the check itself failed: KeyError('x')"),
    ],
)
def test_an_error_is_a_finding_and_the_next_check_goes_on(
    error: Exception, status: Status, text: str
) -> None:
    found = findings(check("first", error, Server.OTHERS), check("second", ok("fine"), Server.OTHERS))
    assert (found["first"].status, found["first"].text) == (status, text)
    assert found["second"].status is Status.OK


def test_after_a_server_is_lost_its_checks_are_skipped_and_those_of_others_are_not() -> None:
    found = findings(
        check("door", ok("there"), reaches=True),
        check("before", ok("fine")),
        check("losing", ServerUnreachable("gone")),
        check("after", ok("never asked")),
        check("other", ok("fine"), Server.REDIS),
    )
    assert found["before"].status is Status.OK
    assert found["losing"].unreachable
    assert (found["after"].status, found["after"].text) == (Status.SKIPPED, "Postgres was lost")
    assert found["other"].status is Status.OK


def test_the_findings_come_in_the_order_of_the_checks() -> None:
    checks = (
        check("c", ok(""), Server.REDIS),
        check("a", ok("")),
        check("b", ok(""), Server.OTHERS),
        check("d", ok("")),
    )
    assert [c.name for c, _ in examine(NOTHING, checks, checks)] == ["c", "a", "b", "d"]


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([ok(""), warn("", "")], Exit.FINE),
        ([ok(""), fail("", "")], Exit.MISMATCH),
        ([fail("", ""), ServerUnreachable("gone")], Exit.UNREACHABLE),
        ([NotVisible("hidden")], Exit.FINE),
    ],
)
def test_the_exit_code_is_that_of_the_worst(answers: list[Any], code: Exit) -> None:
    checks = [check(str(index), answer, Server.OTHERS) for index, answer in enumerate(answers)]
    assert exit_code(examine(NOTHING, checks, checks)) is code


@pytest.mark.parametrize(
    ("only", "skip", "chosen"),
    [([], [], ["a", "b"]), (["b"], [], ["b"]), ([], ["b"], ["a"]), (["a", "b"], ["a"], ["b"])],
)
def test_checks_are_chosen_by_name(only: list[str], skip: list[str], chosen: list[str]) -> None:
    checks = (check("a", ok("")), check("b", ok("")))
    assert [c.name for c in choose(checks, only, skip)] == chosen


@pytest.mark.parametrize(("only", "skip"), [(["x"], []), ([], ["x"]), (["a"], ["a"])])
def test_a_choice_that_leaves_nothing_or_names_nothing_is_refused(only: list[str], skip: list[str]) -> None:
    with pytest.raises(OpsError) as error:
        choose((check("a", ok("")),), only, skip)
    assert error.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("name", [each.name for each in CHECKS])
def test_every_check_is_documented(name: str) -> None:
    assert f"\n| `{name}` |" in (pages.ROOT / "docs" / "doctor.md").read_text()


def test_checks_that_were_skipped_for_one_reason_are_one_line_of_text() -> None:
    names = ("one", "two", "three")
    door = check("door", ServerUnreachable("it is gone"), reaches=True)
    checks = (door, *(check(name, ok("")) for name in names), check("other", ok("fine"), Server.REDIS))
    results = examine(NOTHING, checks, checks)
    text = as_text("dev", results, 120)
    assert "3 checks" in text
    assert "Postgres is not reached: one, two, three" in text
    assert text.endswith("stack 'dev': 1 ok, 1 fail, 3 skipped")
    assert [each["name"] for each in as_json("dev", results)["checks"]] == ["door", *names, "other"]

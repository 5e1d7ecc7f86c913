"""The runner of the checks: a failed check stops no other one, and only the chosen checks run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from db.migrator import SourceError
from infra.docker.engine import EngineUnreachable
from ops import cli
from ops.doctor.check_result import STACK_OPTION, CheckResult, CheckStatus, fail, ok, psql_command, warn
from ops.doctor.checks import CHECKS
from ops.doctor.examination import Check, CheckedServer, Examination
from ops.doctor.rendering import as_json, as_lines
from ops.doctor.runner import choose, examine, exit_code
from ops.errors import Exit, OpsError
from ops.servers.errors import NotVisible, ServerUnreachable, TooSlow
from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation import pages

NOTHING = cast(Examination, SimpleNamespace(stack=SimpleNamespace(name="dev", target="docker")))


def check(
    name: str, answer: Any, server: CheckedServer = CheckedServer.POSTGRES, reaches: bool = False
) -> Check:
    def run(_: Examination) -> CheckResult:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, CheckResult)
        return answer

    return Check(name, server, run, reaches)


def findings(*checks: Check) -> dict[str, CheckResult]:
    return {c.name: finding for c, finding in examine(NOTHING, checks, checks)}


def test_an_error_is_a_finding_and_the_next_check_runs() -> None:
    cases: list[tuple[Exception, CheckStatus, str]] = [
        (ServerUnreachable("gone"), CheckStatus.FAIL, "gone"),
        (NotVisible("hidden"), CheckStatus.SKIPPED, "hidden"),
        (TooSlow("slow"), CheckStatus.SKIPPED, "cancelled: slow"),
        (OpsError("refused"), CheckStatus.FAIL, "refused"),
        (EngineUnreachable("no engine;\nstart it"), CheckStatus.FAIL, "no engine; start it"),
        (SourceError("0002_x.sql is not UTF-8"), CheckStatus.FAIL, "0002_x.sql is not UTF-8"),
        (KeyError("x"), CheckStatus.FAIL, "the check itself failed: KeyError('x')"),
    ]
    for error, status, text in cases:
        with in_case(error, status, text):
            found = findings(
                check("first", error, CheckedServer.OTHERS), check("second", ok("fine"), CheckedServer.OTHERS)
            )
            assert (found["first"].status, found["first"].text) == (status, text)
            assert found["second"].status is CheckStatus.OK


def test_after_a_server_is_lost_only_its_checks_are_skipped() -> None:
    found = findings(
        check("door", ok("there"), reaches=True),
        check("before", ok("fine")),
        check("losing", ServerUnreachable("gone")),
        check("after", ok("never asked")),
        check("other", ok("fine"), CheckedServer.REDIS),
    )
    assert found["before"].status is CheckStatus.OK
    assert found["losing"].unreachable
    assert (found["after"].status, found["after"].text) == (
        CheckStatus.SKIPPED,
        "Postgres became unreachable",
    )
    assert found["other"].status is CheckStatus.OK


def test_the_findings_come_in_the_order_of_the_checks() -> None:
    checks = (
        check("c", ok(""), CheckedServer.REDIS),
        check("a", ok("")),
        check("b", ok(""), CheckedServer.OTHERS),
        check("d", ok("")),
    )
    assert [c.name for c, _ in examine(NOTHING, checks, checks)] == ["c", "a", "b", "d"]


def test_the_exit_code_is_that_of_the_worst_finding() -> None:
    cases: list[tuple[list[Any], Exit]] = [
        ([ok(""), warn("", "")], Exit.FINE),
        ([ok(""), fail("", "")], Exit.MISMATCH),
        ([fail("", ""), ServerUnreachable("gone")], Exit.UNREACHABLE),
        ([NotVisible("hidden")], Exit.FINE),
        ([EngineUnreachable("no engine")], Exit.UNREACHABLE),
        ([SourceError("0002_x.sql is not UTF-8")], Exit.MISMATCH),
    ]
    for answers, code in cases:
        with in_case(answers, code):
            checks = [check(str(index), answer, CheckedServer.OTHERS) for index, answer in enumerate(answers)]
            assert exit_code(examine(NOTHING, checks, checks)) is code


def test_checks_are_chosen_by_name() -> None:
    cases: list[tuple[list[str], list[str], list[str]]] = [
        ([], [], ["a", "b"]),
        (["b"], [], ["b"]),
        ([], ["b"], ["a"]),
        (["a", "b"], ["a"], ["b"]),
    ]
    for only, skip, chosen in cases:
        with in_case(only, skip, chosen):
            checks = (check("a", ok("")), check("b", ok("")))
            assert [c.name for c in choose(checks, only, skip)] == chosen


def test_a_choice_without_checks_or_with_unknown_names_is_refused() -> None:
    cases: list[tuple[list[str], list[str]]] = [(["x"], []), ([], ["x"]), (["a"], ["a"])]
    for only, skip in cases:
        with in_case(only, skip):
            with pytest.raises(OpsError) as error:
                choose((check("a", ok("")),), only, skip)
            assert error.value.exit_code is Exit.USAGE


@promise("every check is documented")
def test_every_check_is_documented() -> None:
    for name in (each.name for each in CHECKS):
        with in_case(name):
            assert f"\n| `{name}` |" in (pages.ROOT / "docs" / "doctor.md").read_text()


def test_checks_that_are_skipped_for_the_same_reason_share_a_line() -> None:
    names = ("one", "two", "three")
    door = check("door", ServerUnreachable("it is gone"), reaches=True)
    checks = (door, *(check(name, ok("")) for name in names), check("other", ok("fine"), CheckedServer.REDIS))
    results = examine(NOTHING, checks, checks)
    text = "\n".join(f"{line.label}{line.text}" for line in as_lines("dev", results, 120))
    assert "3 checks" in text
    assert "Postgres is unreachable: one, two, three" in text
    assert text.endswith("stack 'dev': 1 ok, 1 fail, 3 skipped")
    assert [each["name"] for each in as_json("dev", results)["checks"]] == ["door", *names, "other"]


@pytest.mark.parametrize(("stack", "option"), [("dev", ""), ("prod", " --stack prod")])
def test_commands_in_an_advice_name_the_stack(stack: str, option: str) -> None:
    vacuum = check("dead-rows", warn("many", f"run {psql_command('VACUUM users, orders')}"))
    ((_, finding),) = examine(
        cast(Examination, SimpleNamespace(stack=SimpleNamespace(name=stack, target="docker"))),
        [vacuum],
        [vacuum],
    )
    assert finding.advice == f"run `groundwork psql{option} -c 'VACUUM users, orders'`"


def test_the_advice_on_aws_names_no_command_that_needs_a_container() -> None:
    on_aws = cast(Examination, SimpleNamespace(stack=SimpleNamespace(name="prod", target="aws")))
    for advice, shown in (
        (
            f"run {psql_command('VACUUM users, orders', 'SELECT 1')}",
            "run `psql -c 'VACUUM users, orders' -c 'SELECT 1'` as groundwork_admin from inside the VPC",
        ),
        (
            f"in `groundwork psql{STACK_OPTION} --role migrator`;",
            "in `psql` as migrator from inside the VPC;",
        ),
        (
            f"see `groundwork logs{STACK_OPTION} --service access`; then",
            "see the logs in CloudWatch under /groundwork/prod/access; then",
        ),
        (f"see `groundwork logs{STACK_OPTION}`", "see the logs in CloudWatch under /groundwork/prod"),
        (
            f"`groundwork redis-cli{STACK_OPTION} CLIENT LIST` shows them",
            "`redis-cli CLIENT LIST` from inside the VPC shows them",
        ),
        (f"run `groundwork up{STACK_OPTION}`", "run `groundwork up --stack prod`"),
    ):
        with in_case(advice):
            advised = check("any", warn("ill", advice))
            ((_, finding),) = examine(on_aws, [advised], [advised])
            assert finding.advice == shown


def test_a_list_with_an_empty_name_is_refused() -> None:
    for option in ("--only", "--skip"):
        for names in (",", "disk,,memory", "disk, "):
            with in_case(option, names):
                error = CliRunner().invoke(cli.cli, ["doctor", option, names]).exception
                assert isinstance(error, OpsError)
                assert error.exit_code == Exit.USAGE
                assert str(error) == f"{option} has an empty name beside a comma; remove the comma"

"""A mistyped name of a stack, and containers that are not there: one line, with the exit code that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from click.testing import CliRunner

from ops import stack_status
from ops.cli import main
from ops.commands import handles
from ops.errors import Exit, OpsError
from ops.pulumi_stack import PulumiStack

Ended = Callable[..., tuple[int, str]]

_UNKNOWN = "there is no stack 'deb' (Pulumi.deb.yaml is missing)"


class Replaced(Exception):
    """Raised where the process would become another program."""


@pytest.fixture
def ended(capfd: pytest.CaptureFixture[str]) -> Ended:
    """ended("status", ...): exit code, and what was said on both streams."""

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as over:
            main(list(arguments))
        out, err = capfd.readouterr()
        return int(over.value.code or 0), out + err

    return run


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The containers that Docker is said to have: none until a test adds some."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(stack_status, "container_rows", lambda world, stack: found)

    def become(command: Sequence[str]) -> None:
        raise Replaced(*command)

    monkeypatch.setattr(handles, "_become", become)
    return found


def container(service: str, health: str = "healthy") -> dict[str, Any]:
    return {
        "service": service,
        "container": f"gw-{service}",
        "health": health,
        "isRunning": health == "healthy",
        "address": "127.0.0.1:1",
        "memoryLimitBytes": 64 * 1024**2,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("down", "--yes"), ("down", "--volumes", "--yes"), ("status",), ("status", "--json"), ("logs",), ("psql",),
        ("redis-cli",), ("backup",), ("backup", "list"), ("restore", "--to", "LATEST", "--yes"),
        ("restore", "--abandon"), ("drill",), ("rotate", "status"), ("rotate", "passwords", "app", "--yes"),
        ("up",), ("preview",), ("env",), ("doctor",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_mistyped_stack_is_named_as_one(
    ended: Ended, rows: list[dict[str, Any]], arguments: tuple[str, ...]
) -> None:
    code, said = ended(*arguments, "--stack", "deb")
    assert code == Exit.USAGE
    assert _UNKNOWN in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_handle_needs_no_other_container_than_its_own(rows: list[dict[str, Any]], service: str) -> None:
    rows += [container(service)]
    assert handles._running("dev", service) == f"gw-{service}"


def test_a_shell_of_the_superuser_opens_while_the_access_service_is_gone(rows: list[dict[str, Any]]) -> None:
    rows += [container("postgres"), container("redis", "exited")]
    result = CliRunner().invoke(handles.psql, ["-c", "SELECT 1"])
    assert isinstance(result.exception, Replaced)
    assert "gw-postgres" in result.exception.args


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([container("postgres", "exited")], "container gw-postgres is exited; `docker start gw-postgres`"),
        ([container("redis")], "stack 'dev' has no container for postgres"),
    ],
)
def test_a_container_that_does_not_run_is_named(
    rows: list[dict[str, Any]], there: list[dict[str, Any]], said: str
) -> None:
    rows += there
    with pytest.raises(OpsError) as refused:
        handles._running("dev", "postgres")
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert said in str(refused.value)


@pytest.fixture
def never_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stack this checkout may have."""
    monkeypatch.setattr(PulumiStack, "exists", property(lambda self: False))


@pytest.mark.usefixtures("never_up")
@pytest.mark.parametrize(("option", "out"), [([], ""), (["--json"], "[]\n")])
def test_a_stack_that_is_not_up_is_one_line_and_6(
    rows: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], option: list[str], out: str
) -> None:
    with pytest.raises(SystemExit) as over:
        main(["status", *option])
    said = capfd.readouterr()
    assert (over.value.code, said.out) == (Exit.UNREACHABLE, out)
    assert said.err == "groundwork: stack 'dev' is not up; `groundwork up --stack dev` brings it up\n"


@pytest.mark.usefixtures("never_up")
@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([container("postgres"), container("redis", "exited"), container("access")], "redis is exited"),
        ([container("postgres"), container("redis")], "access is not there"),
        ([container("postgres"), container("redis"), container("access")], None),
    ],
)
def test_status_tells_what_is_ill_or_gone(
    ended: Ended, rows: list[dict[str, Any]], there: list[dict[str, Any]], said: str | None
) -> None:
    rows += there
    code, whole = ended("status")
    line = whole.splitlines()[-1]
    assert len(whole.splitlines()) == 1 + len(there) + (said is not None)
    assert code == (Exit.FINE if said is None else Exit.UNREACHABLE)
    assert line.startswith(f"groundwork: stack 'dev': {said};") or said is None


def test_a_drill_is_not_begun_where_its_evidence_cannot_be_written(ended: Ended) -> None:
    code, said = ended("drill", "--evidence", "/no/such/folder/drill.json")
    assert code == Exit.USAGE
    assert "/no/such/folder is no folder; make it first" in said

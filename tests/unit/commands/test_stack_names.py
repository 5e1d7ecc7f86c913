"""A mistyped stack name, and missing containers: one line, with the right exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from click.testing import CliRunner

from infra import outputs
from infra.docker import members
from infra.spec import monitoring
from infra.spec.checkout import Checkout
from ops.cli import main
from ops.commands import container_tools
from ops.errors import Exit, OpsError
from ops.rotation import subject
from ops.stack import stack_status
from ops.stack.pulumi_stack import PulumiStack
from tests.promises import promise

Ended = Callable[..., tuple[int, str]]

_UNKNOWN = "unknown stack 'deb' (Pulumi.deb.yaml is missing)"


class Replaced(Exception):
    """Raised instead of replacing the process by another program."""


@pytest.fixture
def ended(capfd: pytest.CaptureFixture[str]) -> Ended:
    """Return ended("status", ...), which runs a command and returns its exit code and both outputs."""

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as over:
            main(list(arguments))
        out, err = capfd.readouterr()
        return int(over.value.code or 0), out + err

    return run


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The containers that Docker reports: none, until a test adds some."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(stack_status, "container_rows", lambda checkout, stack: found)

    def become(command: Sequence[str], *_: str) -> None:
        raise Replaced(*command)

    monkeypatch.setattr(container_tools, "_become", become)
    monkeypatch.setattr(container_tools, "_run_psql", become)
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


@promise("an unknown stack is exit code 2, with the names of the existing stacks")
@pytest.mark.parametrize(
    "arguments",
    [
        ("down", "--yes"), ("down", "--volumes", "--yes"), ("status",), ("status", "--json"), ("logs",), ("psql",),
        ("redis-cli",), ("backup",), ("backup", "list"), ("restore", "--to", "LATEST", "--yes"),
        ("restore", "--abandon"), ("drill",), ("rotate", "status"), ("rotate", "passwords", "app", "--yes"),
        ("up",), ("preview",), ("env",), ("doctor",), ("adopt", "--yes"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_mistyped_stack_is_reported_as_an_unknown_stack(
    ended: Ended, rows: list[dict[str, Any]], arguments: tuple[str, ...]
) -> None:
    code, said = ended(*arguments, "--stack", "deb")
    assert code == Exit.USAGE
    assert _UNKNOWN in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_container_tool_needs_only_its_own_container(rows: list[dict[str, Any]], service: str) -> None:
    rows += [container(service)]
    assert container_tools._running("dev", service) == f"gw-{service}"


def test_a_superuser_shell_opens_without_the_access_service(rows: list[dict[str, Any]]) -> None:
    rows += [container("postgres"), container("redis", "exited")]
    result = CliRunner().invoke(container_tools.psql, ["-c", "SELECT 1"])
    assert isinstance(result.exception, Replaced)
    assert "gw-postgres" in result.exception.args


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (
            [container("postgres", "exited")],
            "gw-postgres is exited; start it with `groundwork up --stack dev`",
        ),
        ([container("redis")], "stack 'dev' has no container for postgres"),
    ],
)
def test_a_container_that_does_not_run_is_named(
    rows: list[dict[str, Any]], there: list[dict[str, Any]], said: str
) -> None:
    rows += there
    with pytest.raises(OpsError) as refused:
        container_tools._running("dev", "postgres")
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert said in str(refused.value)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Simulate a stack with replicas of Postgres and no primary. Return how long each search for it waited."""
    waits: list[float] = []

    def search(first: str, wait_seconds: float = members.WAIT_SECONDS) -> str:
        waits.append(wait_seconds)
        raise members.NoPrimary("no member is the primary")

    found = {"postgres": "gw-postgres", "postgres-2": "gw-postgres-2"}
    monkeypatch.setattr(members, "member_containers", lambda first: found)
    monkeypatch.setattr(members, "primary_container", search)
    return waits


def test_psql_does_not_wait_for_a_primary_among_stopped_servers(
    rows: list[dict[str, Any]], cluster: list[float]
) -> None:
    rows += [container("postgres", "exited"), container("postgres-2", "exited"), container("redis")]
    with pytest.raises(OpsError, match="gw-postgres is exited; start it with `groundwork up --stack dev`"):
        container_tools._primary("dev")
    assert cluster == []


def test_psql_says_that_it_waits_for_a_primary(
    rows: list[dict[str, Any]], cluster: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    rows += [container("postgres", "exited"), container("postgres-2")]
    with pytest.raises(members.NoPrimary):
        container_tools._primary("dev")
    assert cluster == [0, members.WAIT_SECONDS]
    assert capsys.readouterr().err == "no Postgres is the primary; waiting up to 120 s for a failover\n"


def test_psql_opens_no_session_on_a_cluster_of_another_state(
    monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], cluster: list[float]
) -> None:
    def refuse(*_: object) -> None:
        raise OpsError("belongs to another state", Exit.REFUSED)

    monkeypatch.setattr(stack_status, "container_rows", refuse)
    with pytest.raises(OpsError, match="another state"):
        container_tools._primary("dev")
    assert cluster == []


def test_a_failed_command_of_docker_is_an_error_after_its_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    container_tools._show_lines(["sh", "-c", "echo line"], "other")
    with pytest.raises(OpsError, match=r"`sh -c` failed .*`groundwork status --stack other`") as failed:
        container_tools._show_lines(["sh", "-c", "echo cannot read the log >&2; exit 1"], "other")
    assert failed.value.exit_code == Exit.UNREACHABLE
    assert capfd.readouterr().out == "line\ncannot read the log\n"


def test_a_service_that_the_settings_leave_out_is_refused_with_its_setting(
    rows: list[dict[str, Any]],
) -> None:
    rows += [container("postgres")]
    for service, setting in (
        ("postgres-3", "postgresReplicas"),
        ("etcd-1", "postgresReplicas"),
        ("redis-2", "redisReplicas"),
        ("sentinel-1", "redisReplicas"),
        ("prometheus", "monitoring"),
    ):
        refused = CliRunner().invoke(container_tools.logs, ["--service", service]).exception
        assert f"{service}; set groundwork:{setting} and run `groundwork up" in str(refused), service


@pytest.fixture
def never_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate that the checkout has no stack that is up."""
    monkeypatch.setattr(PulumiStack, "exists", property(lambda self: False))


@promise("a stack that is not up is reported in one line, with exit code 6")
@pytest.mark.usefixtures("never_up")
@pytest.mark.parametrize(("option", "out"), [([], ""), (["--json"], "[]\n")])
def test_a_stack_that_is_not_up_is_one_line_and_exit_code_6(
    rows: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], option: list[str], out: str
) -> None:
    with pytest.raises(SystemExit) as over:
        main(["status", *option])
    said = capfd.readouterr()
    assert (over.value.code, said.out) == (Exit.UNREACHABLE, out)
    assert said.err == "groundwork: stack 'dev' is not up; run `groundwork up --stack dev`\n"


@promise("`status` names each part that is unhealthy or missing")
@pytest.mark.usefixtures("never_up")
@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([container("postgres"), container("redis", "exited"), container("access")], "redis is exited"),
        ([container("postgres"), container("redis")], "access is missing"),
        ([container("postgres"), container("redis"), container("access")], None),
    ],
)
def test_status_reports_unhealthy_and_missing_containers(
    ended: Ended, rows: list[dict[str, Any]], there: list[dict[str, Any]], said: str | None
) -> None:
    rows += there
    code, whole = ended("status")
    line = whole.splitlines()[-1]
    assert len(whole.splitlines()) == 1 + len(there) + (said is not None)
    assert code == (Exit.FINE if said is None else Exit.UNREACHABLE)
    assert line.startswith(f"groundwork: stack 'dev': {said};") or said is None


def last_up(monkeypatch: pytest.MonkeyPatch, *services: str) -> None:
    """Simulate that the last `up` started these services besides those of every stack."""
    containers = {name: f"gw-{name}" for name in (*stack_status.SERVICES, "network", *services)}
    monkeypatch.setattr(PulumiStack, "exists", property(lambda self: True))
    monkeypatch.setattr(PulumiStack, "public_outputs", lambda self: {outputs.CONTAINERS: containers})
    monkeypatch.setattr(stack_status, "server_roles", lambda *_: {})


@promise("`status` names each part that is unhealthy or missing")
@pytest.mark.parametrize(
    ("started", "missing"),
    [
        (
            (*monitoring.SERVICES,),
            "postgres-exporter is missing, redis-exporter is missing, prometheus is missing",
        ),
        (("redis-2", "sentinel-1"), "redis-2 is missing, sentinel-1 is missing"),
    ],
)
def test_status_reports_parts_of_which_none_is_left(
    ended: Ended,
    rows: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    started: tuple[str, ...],
    missing: str,
) -> None:
    last_up(monkeypatch, *started)
    rows += [container(service) for service in stack_status.SERVICES]
    code, whole = ended("status")
    assert code == Exit.UNREACHABLE
    assert whole.splitlines()[-1].startswith(f"groundwork: stack 'dev': {missing};")


def test_a_rotation_is_refused_if_a_replica_is_missing(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    last_up(monkeypatch, "postgres-2")
    monkeypatch.setattr(subject, "container_rows", lambda *_: rows)
    rows += [container(service) for service in stack_status.SERVICES]
    with pytest.raises(OpsError, match="postgres-2 of stack 'dev' does not run") as refused:
        subject.RotatedStack(Checkout.here(), "dev").check_running()
    assert refused.value.exit_code == Exit.UNREACHABLE


@promise("a file that cannot be written is reported before the work begins")
def test_a_drill_does_not_start_if_its_evidence_cannot_be_written(ended: Ended) -> None:
    code, said = ended("drill", "--evidence", "/no/such/folder/drill.json")
    assert code == Exit.USAGE
    assert "/no/such/folder is not a directory; create it first" in said

"""Certificates by expiry date, and what a server presents: when something is renewed, and what is reported."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from infra import outputs
from infra.certificates import make_authority, make_server_certificate
from infra.docker.engine import DockerError
from infra.docker.members import NoPrimary
from infra.outputs import EXPECTED
from infra.spec.checkout import Checkout
from infra.spec.rotation import AUTHORITY, CERTIFICATES, ROLES, Phase, Rotation
from ops.commands.rotate import rotate
from ops.errors import Exit, OpsError
from ops.rotation import certificates, report, subject
from ops.rotation.certificates import rotate_authority, rotate_certificates
from ops.rotation.presented_certificate import presented_certificate
from ops.rotation.subject import RotatedStack
from tests.cases import in_case
from tests.unit.rotation.stack import FakeStack, Killed

OLD = dt.timedelta(days=200, hours=1)


@dataclass
class FakeServers(FakeStack):
    """A stack whose server certificates expire in `days`. Each `up` that requests new ones creates them."""

    name: str = "unit"
    server_names: tuple[str, ...] = ("postgres", "redis")
    days: int = 397
    authority: Any = field(default_factory=lambda: make_authority("unit"))
    signed: dict[Any, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    silence: str = ""
    running: str | None = None

    def login_differences(self) -> list[str]:
        if self.silence:
            raise OpsError(self.silence, Exit.UNREACHABLE)
        return self.differences

    def resources(self) -> dict[str, dict[str, Any]]:
        made_at = (dt.datetime.now(dt.UTC) - OLD).isoformat()
        found: dict[str, dict[str, Any]] = {
            f"{server}-certificate": {"outputs": {"certificate": self.certificate(server)}}
            for server in self.server_names
        }
        found["authority"] = {"outputs": {"certificate": self.authority.certificate}}
        return found | {name: {"created": made_at} for name in ("postgres-app_a", "redis-app", "redis-ops")}

    def certificate(self, server: str) -> str:
        generations = (self.exported.of(CERTIFICATES).in_use, self.exported.of(AUTHORITY).in_use)
        days = self.days if generations == (1, 1) else 397
        key = (server, generations)
        if key not in self.signed:
            self.signed[key] = make_server_certificate(self.authority, ["localhost"], days).certificate
        return self.signed[key]

    def running_rotation(self) -> str | None:
        return self.running

    def roles(self) -> tuple[str, ...]:
        return ROLES

    def known_outputs(self) -> dict[str, Any]:
        replicas = [each for each in self.server_names if each.startswith("postgres-")]
        return {server: {"host": server, "port": 1} for server in ("postgres", "redis")} | (
            {outputs.POSTGRES_REPLICAS: [{"host": each, "port": 1} for each in replicas]} if replicas else {}
        )


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> FakeServers:
    """A stack whose servers present the certificates of the state."""
    stack = FakeServers()
    for module in (certificates, report):
        monkeypatch.setattr(module, "presented_certificate", lambda server, _: stack.certificate(server))
    return stack


def renew(stack: Any, within_days: int | None = None) -> tuple[str, ...]:
    return rotate_certificates(stack, within_days=within_days, say=lambda _: None).renewed


def renew_authority(stack: Any, within_days: int | None = None, keep_old: bool = False) -> tuple[str, ...]:
    options: dict[str, Any] = {"within_days": within_days, "grace_seconds": 0.0, "keep_old": keep_old}
    return rotate_authority(stack, say=lambda _: None, sleep=lambda _: None, **options).renewed


@pytest.mark.parametrize(
    ("days", "within_days", "renewed"),
    [
        (397, None, ("servers",)),
        (397, 30, ()),
        (29, 30, ("servers",)),
        (31, 30, ()),
        (-1, 0, ("servers",)),
        (-1, None, ("servers",)),
    ],
)
def test_certificates_are_renewed_before_they_expire(
    stack: FakeServers, days: int, within_days: int | None, renewed: tuple[str, ...]
) -> None:
    stack.days = days
    before = stack.certificate("redis")
    assert renew(stack, within_days) == renewed
    assert (stack.certificate("redis") != before) is bool(renewed)


@pytest.mark.parametrize("point", range(1, 9))
def test_a_killed_renewal_is_finished_without_a_second_one(stack: FakeServers, point: int) -> None:
    stack.kill_at = point
    with pytest.raises(Killed):
        renew(stack)
    stack.kill_at = None
    assert renew(stack) == ("servers",)
    assert stack.exported.of(CERTIFICATES).in_use == 2
    assert stack.progress() == Rotation()


def test_a_silent_server_after_the_last_step_does_not_make_another_authority(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def presented(server: str, _: Any) -> str | None:
        return None if stack.exported.of(AUTHORITY).accepted == (2,) else stack.certificate(server)

    monkeypatch.setattr(certificates, "_RELOAD_SECONDS", 0.0)
    with monkeypatch.context() as silent:
        silent.setattr(certificates, "presented_certificate", presented)
        # The second time, the authority is not due any more.
        for within_days in (None, 365):
            with pytest.raises(OpsError, match="then run this command again"):
                renew_authority(stack, within_days)
    assert renew_authority(stack) == ("servers", "authority")
    assert stack.exported.of(AUTHORITY).accepted == (2,)


def test_an_authority_is_rotated_in_three_steps_only_if_due(stack: FakeServers) -> None:
    assert renew_authority(stack, within_days=365) == ()
    assert stack.ups == 0
    assert renew_authority(stack) == ("servers", "authority")
    assert (stack.ups, stack.exported.of(AUTHORITY).accepted) == (3, (2,))


def test_servers_are_renewed_if_they_expire_and_the_authority_does_not(stack: FakeServers) -> None:
    stack.days = 10
    assert renew_authority(stack, within_days=30) == ("servers",)
    assert (stack.exported.of(CERTIFICATES).in_use, stack.exported.of(AUTHORITY).in_use) == (2, 1)


def test_an_old_authority_is_reported_as_long_as_clients_trust_it(stack: FakeServers) -> None:
    renew_authority(stack, keep_old=True)
    for within_days in (None, 30):
        done = rotate_certificates(cast(Any, stack), within_days=within_days, say=lambda _: None)
        assert done.as_json()["oldAuthority"] == "trusted"
    renew_authority(stack)
    done = rotate_certificates(cast(Any, stack), within_days=30, say=lambda _: None)
    assert done.as_json()["oldAuthority"] == "gone"


def test_an_old_authority_that_was_kept_is_removed_by_the_next_run(stack: FakeServers) -> None:
    renew_authority(stack, keep_old=True)
    assert stack.exported.of(AUTHORITY).phase is Phase.MOVED
    renew_authority(stack)
    assert stack.exported.of(AUTHORITY).accepted == (2,)


@pytest.mark.parametrize(("presented", "code"), [("another", Exit.MISMATCH), (None, Exit.UNREACHABLE)])
def test_an_old_authority_stays_trusted_until_every_server_presents_the_new_certificate(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch, presented: str | None, code: Exit
) -> None:
    other = make_server_certificate(stack.authority, ["localhost"]).certificate if presented else None
    monkeypatch.setattr(certificates, "presented_certificate", lambda *_: other)
    monkeypatch.setattr(certificates, "_RELOAD_SECONDS", 0.0)
    with pytest.raises(OpsError, match=r"^postgres ") as raised:
        renew_authority(stack)
    assert raised.value.exit_code == code
    assert stack.exported.of(AUTHORITY).accepted == (1, 2)


def test_a_replica_that_presents_its_old_certificate_keeps_the_old_authority_trusted(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.server_names = ("postgres", "postgres-2", "postgres-3", "redis")
    other = make_server_certificate(stack.authority, ["localhost"]).certificate

    def presented(server: str, address: Any) -> str:
        assert address["host"] == server
        return other if server == "postgres-3" else stack.certificate(server)

    monkeypatch.setattr(certificates, "presented_certificate", presented)
    monkeypatch.setattr(report, "presented_certificate", presented)
    monkeypatch.setattr(certificates, "_RELOAD_SECONDS", 0.0)
    with pytest.raises(OpsError, match=r"^postgres-3 still presents another certificate"):
        renew_authority(stack)
    assert stack.exported.of(AUTHORITY).accepted == (1, 2)
    found = _report(stack)
    assert [line.split()[0] for line in found.mismatches] == ["postgres-3"]
    assert found.served["postgres-2"] is True


def _report(stack: Any, max_age_days: int | None = None, within_days: int = 30) -> report.RotationReport:
    return report.report_on(stack, max_age_days=max_age_days, within_days=within_days)


def test_a_stack_with_nothing_due_is_reported(stack: FakeServers) -> None:
    found = _report(stack)
    assert (found.due, found.mismatches) == ((), ())
    assert found.as_lines()[-1] == "nothing is due"
    assert found.as_json()["passwords"]["app"]["ageDays"] == OLD.days


def test_a_due_rotation_is_reported_with_its_command(stack: FakeServers) -> None:
    stack.days = 10
    due = _report(stack, max_age_days=100).due
    assert [line.partition(":")[0] for line in due] == ["app", "ops", "postgres", "redis"]
    assert "200 days old; run `groundwork rotate passwords app --stack unit`" in due[0]
    assert "expires in 9 days; run `groundwork rotate certificates --stack unit`" in due[2]


def test_an_expired_certificate_is_reported(stack: FakeServers) -> None:
    stack.days = -1
    assert "the certificate has expired" in _report(stack).due[0]


def test_a_certificate_made_while_the_clock_was_ahead_is_due(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The certificates are made now.
    stack.resources()
    behind = dt.datetime.now(dt.UTC) - dt.timedelta(hours=3)

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Clock:
            return cls.fromtimestamp(behind.timestamp(), tz)

    for module in (report, certificates):
        monkeypatch.setattr(module, "dt", SimpleNamespace(datetime=Clock, UTC=dt.UTC))
    due = _report(stack).due
    assert [line.partition(":")[0] for line in due] == ["postgres", "redis", "authority"]
    assert all("is not valid before" in line and "check the clock; run" in line for line in due)
    assert renew(stack, within_days=30) == ("servers",)


def test_a_rotation_in_progress_and_an_unfinished_step_are_due(stack: FakeServers) -> None:
    stack.written = stack.written.step(["app", AUTHORITY], dt.datetime.now(dt.UTC))
    due = _report(stack).due
    assert "is unfinished" in due[0]
    assert due[0].endswith("or `groundwork up --stack unit`")
    assert "resume with `groundwork rotate passwords app --stack unit`" in due[1]
    assert "resume with `groundwork rotate certificates --authority --stack unit`" in due[2]


def test_the_replaced_password_of_a_role_with_one_login_is_not_called_accepted(stack: FakeServers) -> None:
    for _ in range(2):
        stack.written = stack.written.step(["migrator", "app"], dt.datetime.now(dt.UTC))
    for finished, migrator in ((False, "may not be in use yet"), (True, "is in use")):
        if finished:
            stack.exported = stack.written
        due = {line.partition(":")[0]: line for line in _report(stack).due}
        assert due["migrator"].startswith(f"migrator: the new one {migrator}; resume with")
        assert due["app"].startswith("app: the new one is in use, and the old one is still accepted; resume")


def test_a_running_rotation_is_neither_unfinished_nor_a_mismatch(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.written = stack.written.step(["app", AUTHORITY], dt.datetime.now(dt.UTC))
    stack.differences = ["app_b can log in and is retired"]
    other = make_server_certificate(stack.authority, ["localhost"]).certificate
    monkeypatch.setattr(report, "presented_certificate", lambda *_: other)
    stack.running = "(process 12)"
    found = _report(stack)
    assert found.due == ("rotation is running (process 12); wait until it has finished",)
    assert found.mismatches == ()
    stack.running = None
    # The unfinished step explains the certificates.
    assert [line.partition(";")[0] for line in _report(stack).mismatches] == stack.differences


def test_a_rotation_whose_result_was_not_checked_is_due(stack: FakeServers) -> None:
    stack.kill_at = 8
    with pytest.raises(Killed):
        renew(stack)
    stack.kill_at = None
    assert _report(stack).due == (
        "certificates: the rotation is not checked; run the same `groundwork rotate` command again",
    )
    renew(stack)
    assert _report(stack).due == ()


def test_a_login_that_changed_itself_is_a_mismatch_with_its_repair(stack: Any) -> None:
    stack.differences = ["app_a has a password and is retired"]
    found = report.report_on(stack, max_age_days=None, within_days=30)
    assert found.mismatches == (
        "app_a has a password and is retired; `groundwork up --stack unit` repairs it",
    )


@pytest.mark.parametrize(
    ("days", "code"), [(397, Exit.UNREACHABLE), (-1, Exit.PENDING)], ids=["nothing", "due"]
)
def test_without_postgres_ages_and_expiry_are_shown_and_the_logins_are_not_called_compared(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch, days: int, code: Exit
) -> None:
    stack.silence, stack.days = "no member of postgres is the primary", days
    monkeypatch.setattr("ops.commands.rotate._target", lambda _: stack)
    shown = CliRunner().invoke(rotate, ["status"])
    assert shown.exit_code == code
    assert shown.stdout.splitlines()[-1] == "logins were not compared: no member of postgres is the primary"
    assert re.search(r"^postgres +\d{4}-\d\d-\d\d", shown.stdout, re.MULTILINE)
    found = json.loads(CliRunner().invoke(rotate, ["status", "--json"]).stdout)
    assert (found["loginsCompared"], "app" in found["passwords"]) == (False, True)


def test_the_logins_of_a_stack_without_an_answering_postgres_are_not_called_equal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = RotatedStack(Checkout(tmp_path, "0a1b2c", tmp_path, tmp_path), "dev")
    monkeypatch.setattr(
        RotatedStack, "known_outputs", lambda _: {EXPECTED: {"verifierDigests": {"app_a": "x"}}}
    )
    waited: list[float] = []

    def no_primary(_: str, wait_seconds: float) -> str:
        waited.append(wait_seconds)
        raise NoPrimary("no member is the primary")

    def silent(*_: Any, **__: Any) -> str:
        raise DockerError("psql:\ncannot connect")

    monkeypatch.setattr(subject, "primary_container", no_primary)
    with pytest.raises(OpsError, match=r"no member is the primary") as raised:
        stack.login_differences()
    assert (raised.value.exit_code, waited) == (Exit.UNREACHABLE, [0])
    monkeypatch.setattr(subject, "primary_container", lambda name, _: name)
    monkeypatch.setattr(subject, "psql", silent)
    with pytest.raises(OpsError, match=r"^psql: cannot connect$"):
        stack.login_differences()


def test_another_certificate_is_a_mismatch_but_a_silent_server_is_not(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_server_certificate(stack.authority, ["localhost"]).certificate
    monkeypatch.setattr(
        report, "presented_certificate", lambda server, _: other if server == "redis" else None
    )
    found = _report(stack)
    assert [line.split()[0] for line in found.mismatches] == ["redis"]
    assert found.served == {"postgres": None, "redis": False}


@contextmanager
def _listener(answer: bytes) -> Iterator[dict[str, Any]]:
    """A program on a port that answers once, without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield {"host": "127.0.0.1", "port": server.getsockname()[1]}
        thread.join(10)


def test_a_server_without_tls_presents_no_certificate() -> None:
    for server in ("postgres", "postgres-2", "redis"):
        for answer in (b"N", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            with in_case(server, answer):
                with _listener(answer) as address:
                    assert presented_certificate(server, address) is None


def test_a_closed_port_presents_no_certificate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert presented_certificate("redis", {"host": "127.0.0.1", "port": port}) is None

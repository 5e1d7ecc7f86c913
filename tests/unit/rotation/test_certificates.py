"""Certificates by their ends, and what a server presents: when something is renewed, and what is said of it."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.certificates import make_authority, make_server_certificate
from infra.spec.rotation import AUTHORITY, CERTIFICATES, Phase
from ops.errors import Exit, OpsError
from ops.rotation import certificates, report
from ops.rotation.certificates import rotate_authority, rotate_certificates
from ops.rotation.served import served_certificate
from tests.unit.rotation.stack import FakeStack, Killed

OLD = dt.timedelta(days=200, hours=1)


@dataclass
class FakeServers(FakeStack):
    """A stack whose servers' certificates end in `days`; each `up` that asks for others makes them."""

    name: str = "unit"
    days: int = 397
    authority: Any = field(default_factory=lambda: make_authority("unit"))
    signed: dict[Any, str] = field(default_factory=dict)

    def resources(self) -> dict[str, dict[str, Any]]:
        made_at = (dt.datetime.now(dt.UTC) - OLD).isoformat()
        found: dict[str, dict[str, Any]] = {
            f"{server}-certificate": {"outputs": {"certificate": self.certificate(server)}}
            for server in ("postgres", "redis")
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

    def known_outputs(self) -> dict[str, Any]:
        return {server: {"host": server, "port": 1} for server in ("postgres", "redis")}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> FakeServers:
    """Its servers present what the state has."""
    stack = FakeServers()
    for module in (certificates, report):
        monkeypatch.setattr(module, "served_certificate", lambda server, _: stack.certificate(server))
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
def test_certificates_are_renewed_by_their_end(
    stack: FakeServers, days: int, within_days: int | None, renewed: tuple[str, ...]
) -> None:
    stack.days = days
    before = stack.certificate("redis")
    assert renew(stack, within_days) == renewed
    assert (stack.certificate("redis") != before) is bool(renewed)


@pytest.mark.parametrize("point", [2, 3, 4])
def test_a_killed_renewal_is_finished_and_no_second_one_begins(stack: FakeServers, point: int) -> None:
    stack.kill_at = point
    with pytest.raises(Killed):
        renew(stack)
    stack.kill_at = None
    assert renew(stack) == ("servers",)
    assert stack.exported.of(CERTIFICATES).in_use == 2


def test_an_authority_goes_in_three_steps_and_one_that_lasts_is_left(stack: FakeServers) -> None:
    assert renew_authority(stack, within_days=365) == ()
    assert stack.ups == 0
    assert renew_authority(stack) == ("servers", "authority")
    assert (stack.ups, stack.exported.of(AUTHORITY).accepted) == (3, (2,))


def test_an_authority_kept_is_taken_away_by_the_next_run(stack: FakeServers) -> None:
    renew_authority(stack, keep_old=True)
    assert stack.exported.of(AUTHORITY).phase is Phase.MOVED
    renew_authority(stack)
    assert stack.exported.of(AUTHORITY).accepted == (2,)


@pytest.mark.parametrize(("presented", "code"), [("another", Exit.MISMATCH), (None, Exit.UNREACHABLE)])
def test_an_old_authority_stays_trusted_while_a_server_does_not_present_the_new_certificate(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch, presented: str | None, code: Exit
) -> None:
    other = make_server_certificate(stack.authority, ["localhost"]).certificate if presented else None
    monkeypatch.setattr(certificates, "served_certificate", lambda *_: other)
    monkeypatch.setattr(certificates, "_RELOAD_SECONDS", 0.0)
    with pytest.raises(OpsError, match=r"^postgres ") as raised:
        renew_authority(stack)
    assert raised.value.exit_code == code
    assert stack.exported.of(AUTHORITY).accepted == (1, 2)


def _report(stack: Any, max_age_days: int | None = None, within_days: int = 30) -> report.Report:
    return report.report_on(stack, max_age_days=max_age_days, within_days=within_days)


def test_a_stack_with_nothing_due_says_so(stack: FakeServers) -> None:
    found = _report(stack)
    assert (found.due, found.mismatches) == ((), ())
    assert found.as_text().endswith("nothing is due")
    assert found.as_json()["passwords"]["app"]["ageDays"] == OLD.days


def test_what_is_due_is_told_with_its_command(stack: FakeServers) -> None:
    stack.days = 10
    due = _report(stack, max_age_days=100).due
    assert [line.partition(":")[0] for line in due] == ["app", "ops", "postgres", "redis"]
    assert "200 days old; `groundwork rotate passwords app`" in due[0]
    assert "ends in 9 days; `groundwork rotate certificates`" in due[2]


def test_an_expired_certificate_has_ended(stack: FakeServers) -> None:
    stack.days = -1
    assert "its certificate has ended" in _report(stack).due[0]


def test_a_rotation_under_way_and_an_unfinished_step_are_due(stack: FakeServers) -> None:
    stack.written = stack.written.step(["app", AUTHORITY], dt.datetime.now(dt.UTC))
    due = _report(stack).due
    assert "was not finished" in due[0]
    assert "`groundwork rotate passwords app` goes on" in due[1]
    assert "`groundwork rotate certificates --authority` goes on" in due[2]


def test_a_server_with_another_certificate_is_a_mismatch_and_one_that_is_silent_is_not(
    stack: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_server_certificate(stack.authority, ["localhost"]).certificate
    monkeypatch.setattr(report, "served_certificate", lambda server, _: other if server == "redis" else None)
    found = _report(stack)
    assert [line.split()[0] for line in found.mismatches] == ["redis"]
    assert found.served == {"postgres": None, "redis": False}


@contextmanager
def _listener(answer: bytes) -> Iterator[dict[str, Any]]:
    """Something on a port that answers once, and is no TLS server."""
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


@pytest.mark.parametrize("server", ["postgres", "redis"])
@pytest.mark.parametrize("answer", [b"N", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_speaks_no_tls_presents_no_certificate(server: str, answer: bytes) -> None:
    with _listener(answer) as address:
        assert served_certificate(server, address) is None


def test_nobody_at_a_port_presents_no_certificate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert served_certificate("redis", {"host": "127.0.0.1", "port": port}) is None

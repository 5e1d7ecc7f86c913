"""Doctor's advice for a certificate that expires: `up` renews a server's, and a rotation renews the authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ops.doctor import certificates as module
from ops.doctor.check_result import CheckResult, CheckStatus
from ops.doctor.examination import Examination
from ops.doctor.thresholds import Thresholds

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROTATE, UP = "run `groundwork rotate certificates --authority", "run `groundwork up"


def _valid(days: int, start: timedelta = timedelta(hours=-1)) -> SimpleNamespace:
    """Return the validity of a certificate that expires in `days`."""
    return SimpleNamespace(not_valid_before_utc=NOW + start, not_valid_after_utc=NOW + timedelta(days=days))


def checked(**changed: object) -> CheckResult:
    """Run the check on a stack with one server of Postgres and of Redis, except for what is `changed`."""
    stack: dict[str, object] = {
        "name": "dev",
        "members": {},
        "postgres_container": "gw-postgres",
        "postgres_address": ("localhost", 1),
        "replica_addresses": [],
        "redis_addresses": [("localhost", 2)],
        "ca_file": Path("ca.crt"),
    }
    examination = SimpleNamespace(
        stack=SimpleNamespace(**stack | changed), thresholds=Thresholds(), now=NOW.timestamp
    )
    return module.certificates(cast(Examination, examination))


@pytest.mark.parametrize(
    ("is_authority", "advice"), [(False, UP), (True, ROTATE)], ids=["a server's", "the authority's"]
)
def test_a_certificate_that_is_not_valid_yet_fails_and_names_the_clock(
    monkeypatch: pytest.MonkeyPatch, is_authority: bool, advice: str
) -> None:
    early, valid = _valid(300, timedelta(hours=2)), _valid(300)
    monkeypatch.setattr(module, "_presented_by", lambda *_, **__: valid if is_authority else early)
    monkeypatch.setattr(module, "_in_file", lambda _: early if is_authority else valid)
    found = checked()
    assert found.status is CheckStatus.FAIL
    assert "is not valid before 2030-01-01 02:00 UTC" in found.text
    assert found.advice.startswith("check this machine's clock")
    assert advice in found.advice


@pytest.mark.parametrize(
    ("server_days", "authority_days", "container", "status", "advice"),
    [
        (300, 10, "gw-postgres", CheckStatus.WARN, ROTATE),
        (10, 10, "gw-postgres", CheckStatus.WARN, ROTATE),
        (-1, 3000, "gw-postgres", CheckStatus.FAIL, UP),
        # On AWS, where `rotate` is refused.
        (300, 10, None, CheckStatus.WARN, UP),
    ],
)
def test_the_advice_renews_what_expires(
    monkeypatch: pytest.MonkeyPatch,
    server_days: int,
    authority_days: int,
    container: str | None,
    status: CheckStatus,
    advice: str,
) -> None:
    monkeypatch.setattr(module, "_presented_by", lambda *_, **__: _valid(server_days))
    monkeypatch.setattr(module, "_in_file", lambda _: _valid(authority_days))
    found = checked(postgres_container=container)
    assert found.status is status
    assert found.advice.startswith(advice)


@pytest.mark.parametrize(
    "server", [None, -1], ids=["Postgres does not answer", "Postgres presents an expired one"]
)
@pytest.mark.parametrize(
    ("primary", "expired", "advice"),
    [
        (
            None,
            ["postgres", "etcd-1"],
            "run `groundwork down --stack STACK`, then `groundwork up --stack STACK`",
        ),
        (None, [], UP),
        ("postgres-2", ["postgres", "etcd-1"], UP),
    ],
    ids=["no primary", "no primary for another reason", "a primary"],
)
def test_without_a_primary_expired_certificates_are_renewed_by_down_and_up(
    monkeypatch: pytest.MonkeyPatch,
    server: int | None,
    primary: str | None,
    expired: list[str],
    advice: str,
) -> None:
    def present(_: object, *, asks_first: bool) -> SimpleNamespace:
        if asks_first and server is None:
            raise ConnectionRefusedError("connection refused")
        return _valid(-1)

    monkeypatch.setattr(module, "_presented_by", present)
    monkeypatch.setattr(module, "_in_file", lambda _: _valid(3000))
    monkeypatch.setattr(module, "primary_of", lambda _: primary)
    monkeypatch.setattr(module, "expired_members", lambda _: expired)
    found = checked(members={"postgres": "gw-postgres", "postgres-2": "gw-postgres-2"})
    assert found.status is CheckStatus.FAIL
    assert found.advice.startswith(advice)


def test_the_certificate_of_a_replica_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def presented_by(address: tuple[str, int], *, asks_first: bool) -> SimpleNamespace:
        asked[address[1]] = asks_first
        return _valid(-1 if address[1] == 3 else 300)

    monkeypatch.setattr(module, "_presented_by", presented_by)
    monkeypatch.setattr(module, "_in_file", lambda _: _valid(3000))
    found = checked(
        replica_addresses=[("localhost", 2), ("localhost", 3)], redis_addresses=[("localhost", 4)]
    )
    assert found.status is CheckStatus.FAIL
    assert "Postgres 3's expired 1 days ago" in found.text
    assert asked == {1: True, 2: True, 3: True, 4: False}


@pytest.mark.parametrize(
    ("redis_days", "advice"),
    [(300, "see this server's other checks"), (10, UP)],
    ids=["valid", "expires soon"],
)
def test_a_server_that_does_not_answer_is_not_said_to_need_a_new_certificate(
    monkeypatch: pytest.MonkeyPatch, redis_days: int, advice: str
) -> None:
    def presented_by(address: tuple[str, int], *, asks_first: bool) -> SimpleNamespace:
        if asks_first:
            raise TimeoutError("timed out")
        return _valid(redis_days)

    monkeypatch.setattr(module, "_presented_by", presented_by)
    monkeypatch.setattr(module, "_in_file", lambda _: _valid(3000))
    found = checked()
    assert (found.status, found.text.endswith("cannot read Postgres's: timed out")) == (
        CheckStatus.WARN,
        True,
    )
    assert found.advice.startswith(advice)

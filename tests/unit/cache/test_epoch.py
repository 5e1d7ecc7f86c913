"""The epoch that a process assumes for each entity, and how long the assumption is valid."""

from __future__ import annotations

import pytest

import cache.epoch
from cache.epoch import RELIANCE_SECONDS, Epoch, ServerIdentity
from tests.cases import in_case


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(cache.epoch, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def changes() -> list[bytes]:
    return []


@pytest.fixture
def epoch(clock: list[float], changes: list[bytes]) -> Epoch:
    return Epoch(lambda: changes.append(b"changed"))


def _learn(
    epoch: Epoch, nonce: bytes, run_id: bytes = b"r", question: tuple[int, float] | None = None
) -> None:
    information = b"# Server\r\nrun_id:" + run_id + b"\r\nmaster_replid:p\r\n"
    epoch.learn(question or epoch.question(), information, nonce)


def test_no_entry_is_accepted_before_the_server_has_answered(epoch: Epoch) -> None:
    user = epoch.of("user")
    assert epoch.is_overdue
    assert user.stamp() is None
    assert not user.is_current(user.tag)


def test_the_servers_answer_is_valid_for_a_limited_time(epoch: Epoch, clock: list[float]) -> None:
    user = epoch.of("user")
    _learn(epoch, b"n")
    assert user.stamp() == user.tag + b":"
    clock[0] += RELIANCE_SECONDS - 0.01
    assert user.stamp() == user.tag + b":"
    clock[0] += 0.02
    assert user.stamp() is None
    assert not user.is_current(user.tag)


def test_the_validity_starts_with_the_request_and_not_with_the_answer(
    epoch: Epoch, clock: list[float]
) -> None:
    question = epoch.question()
    clock[0] += RELIANCE_SECONDS + 0.01
    _learn(epoch, b"n", question=question)
    assert epoch.is_overdue


def test_a_new_nonce_of_an_entity_ends_only_its_epoch(epoch: Epoch, changes: list[bytes]) -> None:
    user, organization = epoch.of("user"), epoch.of("organization")
    _learn(epoch, b"n")
    before = user.tag
    assert user.tag == organization.tag == epoch.tag
    _learn(epoch, b"n user=1")
    assert user.tag != before
    assert organization.tag == epoch.tag == before
    assert len(changes) == 2


def test_each_part_of_the_nonce_matters_to_its_own_entities() -> None:
    cases: list[bytes] = [b"m user=1", b"m", b"n user=2", b"n user=1 organization=3"]
    for changed in cases:
        with in_case(changed):
            before, after = ServerIdentity(b"r", b"p", b"n user=1"), ServerIdentity(b"r", b"p", changed)
            assert (after.tag_of("user") == before.tag_of("user")) == (b"organization" in changed)


def test_an_entity_with_a_common_prefix_is_another_one() -> None:
    identity = ServerIdentity(b"r", b"p", b"n user_feed=1")
    assert identity.tag_of("user") == identity.tag_of("organization") != identity.tag_of("user_feed")


def test_another_run_history_or_nonce_is_another_epoch() -> None:
    cases: list[ServerIdentity] = [
        ServerIdentity(b"x", b"p", b"n"),
        ServerIdentity(b"r", b"x", b"n"),
        ServerIdentity(b"r", b"p", b"x"),
    ]
    for which in cases:
        with in_case(which):
            assert which.tag_of("user") != ServerIdentity(b"r", b"p", b"n").tag_of("user")


def test_the_answer_to_an_earlier_request_is_ignored(epoch: Epoch) -> None:
    early, late = epoch.question(), epoch.question()
    _learn(epoch, b"new", question=late)
    tag = epoch.tag
    _learn(epoch, b"old", question=early)
    assert epoch.tag == tag


def test_after_a_doubt_the_answer_to_an_earlier_request_is_ignored(epoch: Epoch) -> None:
    _learn(epoch, b"n")
    user = epoch.of("user")
    question = epoch.question()
    epoch.doubt()
    assert user.stamp() is None
    _learn(epoch, b"n", question=question)
    assert epoch.is_overdue
    _learn(epoch, b"m")
    assert user.stamp() == user.tag + b":"


def test_listeners_are_only_notified_of_changes(epoch: Epoch, changes: list[bytes]) -> None:
    _learn(epoch, b"n")
    _learn(epoch, b"n")
    assert len(changes) == 1

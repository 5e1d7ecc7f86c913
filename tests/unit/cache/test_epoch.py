"""What a process takes for the present epoch, entity by entity, and for how long it does."""

from __future__ import annotations

import pytest

import cache.epoch
from cache.epoch import RELIANCE_SECONDS, Epoch, Told


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


def test_until_the_server_has_been_asked_nothing_is_held(epoch: Epoch) -> None:
    user = epoch.of("user")
    assert epoch.is_overdue
    assert not user.holds(user.tag + b":x")
    assert not user.stands(user.tag)


def test_what_the_server_told_is_relied_on_for_a_while(epoch: Epoch, clock: list[float]) -> None:
    user = epoch.of("user")
    _learn(epoch, b"n")
    assert user.holds(user.tag + b":x")
    clock[0] += RELIANCE_SECONDS - 0.01
    assert user.holds(user.tag + b":x")
    clock[0] += 0.02
    assert not user.holds(user.tag + b":x")
    assert not user.stands(user.tag)


def test_the_while_begins_when_it_was_asked_and_not_when_it_was_answered(
    epoch: Epoch, clock: list[float]
) -> None:
    question = epoch.question()
    clock[0] += RELIANCE_SECONDS + 0.01
    _learn(epoch, b"n", question=question)
    assert epoch.is_overdue


def test_a_nonce_of_one_entity_ends_its_epoch_alone(epoch: Epoch, changes: list[bytes]) -> None:
    user, organization = epoch.of("user"), epoch.of("organization")
    _learn(epoch, b"n")
    before = user.tag
    assert user.tag == organization.tag == epoch.tag
    _learn(epoch, b"n user=1")
    assert user.tag != before
    assert organization.tag == epoch.tag == before
    assert len(changes) == 2


@pytest.mark.parametrize("changed", [b"m user=1", b"m", b"n user=2", b"n user=1 organization=3"])
def test_each_part_of_the_nonce_counts_for_its_own(changed: bytes) -> None:
    before, after = Told(b"r", b"p", b"n user=1"), Told(b"r", b"p", changed)
    assert (after.tag_of("user") == before.tag_of("user")) == (b"organization" in changed)


def test_an_entity_whose_name_begins_alike_is_another() -> None:
    told = Told(b"r", b"p", b"n user_feed=1")
    assert told.tag_of("user") == told.tag_of("organization") != told.tag_of("user_feed")


@pytest.mark.parametrize("which", [Told(b"x", b"p", b"n"), Told(b"r", b"x", b"n"), Told(b"r", b"p", b"x")])
def test_another_run_another_history_and_another_nonce_are_other_epochs(which: Told) -> None:
    assert which.tag_of("user") != Told(b"r", b"p", b"n").tag_of("user")


def test_the_earlier_question_of_two_is_not_listened_to(epoch: Epoch) -> None:
    early, late = epoch.question(), epoch.question()
    _learn(epoch, b"new", question=late)
    tag = epoch.tag
    _learn(epoch, b"old", question=early)
    assert epoch.tag == tag


def test_in_doubt_an_answer_that_was_under_way_does_not_help(epoch: Epoch) -> None:
    _learn(epoch, b"n")
    user = epoch.of("user")
    question = epoch.question()
    epoch.doubt()
    assert not user.holds(user.tag + b":x")
    _learn(epoch, b"n", question=question)
    assert epoch.is_overdue
    _learn(epoch, b"m")
    assert user.holds(user.tag + b":x")


def test_without_a_change_nobody_is_told(epoch: Epoch, changes: list[bytes]) -> None:
    _learn(epoch, b"n")
    _learn(epoch, b"n")
    assert len(changes) == 1

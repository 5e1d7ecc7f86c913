"""What a replica says before a read, and what follows from it."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

import psycopg
import pytest
from psycopg import errors as sql_errors

import db._sync.replicas
from cache.url_source import UrlSource
from db._sync.connection import BoundedConnection
from db._sync.replicas import Replicas, _NotHereError
from db.deadline import Deadline
from db.errors import InvalidSetting
from db.rows import BEGINNING, Position, ReplayPosition
from db.settings import DatabaseSettings
from db.translation import DeadlinePassed


class Session:
    """A connection to a replica that gives these answers, and then the last one again and again."""

    replayed = BoundedConnection.replayed
    replayed_at = BoundedConnection.replayed_at

    def __init__(self, *answers: ReplayPosition) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.pgconn = Mock()
        self.deadline: Deadline | None = None

    def fetch(self, query: object, parameters: object, row_factory: object) -> list[ReplayPosition]:
        self.asked += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


@pytest.fixture
def replicas() -> Replicas:
    url = UrlSource("DATABASE_READ_URL", InvalidSetting, "postgresql://app_a@localhost:1/groundwork")
    return Replicas(DatabaseSettings(url), name="test")


def wait(replicas: Replicas, session: Session, position: Position) -> None:
    replicas._await_replay(cast(Any, session), position, Deadline(8.0))


def test_a_replica_that_has_replayed_a_position_is_not_asked_again(replicas: Replicas) -> None:
    session = Session(ReplayPosition(1, 50))
    wait(replicas, session, Position(1, 50))
    wait(replicas, session, Position(1, 40))
    assert session.asked == 1
    session.answers = [ReplayPosition(1, 60)]
    wait(replicas, session, Position(1, 60))
    assert session.asked == 2


def test_a_replica_that_has_not_answered_lately_is_asked_again(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(ReplayPosition(1, 50))
    wait(replicas, session, Position(1, 50))
    monkeypatch.setattr(db._sync.replicas, "_TRUST_SECONDS", 0.0)
    wait(replicas, session, BEGINNING)
    assert session.asked == 2
    assert session.deadline is not None
    assert session.deadline.seconds <= 1.0


def test_a_replica_that_is_a_little_late_is_waited_for(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take longer than the few milliseconds for two answers.
    monkeypatch.setattr(db._sync.replicas, "_REPLAY_SECONDS", 60.0)
    session = Session(ReplayPosition(1, 48), ReplayPosition(1, 49), ReplayPosition(1, 50))
    wait(replicas, session, Position(1, 50))
    assert session.asked == 3


def test_a_replica_that_stays_behind_does_not_answer(replicas: Replicas) -> None:
    with pytest.raises(_NotHereError, match="lagging"):
        wait(replicas, Session(ReplayPosition(1, 49)), Position(1, 50))


def test_a_replica_that_was_promoted_does_not_answer_and_its_connection_ends(replicas: Replicas) -> None:
    session = Session(ReplayPosition(None, 900))
    with pytest.raises(_NotHereError, match="no_replica"):
        wait(replicas, session, Position(1, 50))
    session.pgconn.finish.assert_called_once()


@pytest.mark.parametrize(("timeline", "is_forgotten"), [(1, False), (3, True)])
def test_positions_of_two_timelines_are_not_compared(
    replicas: Replicas, timeline: int, is_forgotten: bool
) -> None:
    """If the replica is ahead, what is known is forgotten. If it is behind, asking again would not help."""
    known = replicas.positions
    known.learned(known.before_asking(), Position(2, 50))
    session = Session(ReplayPosition(timeline, 900))
    for _ in range(2):
        with pytest.raises(_NotHereError, match="other_timeline"):
            wait(replicas, session, Position(2, 50))
    assert session.asked == 1
    assert (known.required(10.0) is None) is is_forgotten


@pytest.mark.parametrize(
    ("error", "is_raised"),
    [
        (sql_errors.QueryCanceled(), True),
        (sql_errors.ConfigurationLimitExceeded(), True),
        (sql_errors.UndefinedColumn(), False),
        (sql_errors.SerializationFailure(), False),
        (sql_errors.ReadOnlySqlTransaction(), False),
        (sql_errors.AdminShutdown(), False),
        (psycopg.OperationalError("the connection is lost"), False),
        (DeadlinePassed(), False),
    ],
)
def test_errors_after_which_the_primary_executes_the_query(
    replicas: Replicas, error: psycopg.Error, is_raised: bool
) -> None:
    if is_raised:
        with pytest.raises(type(error)):
            replicas._judge(error, Deadline(8.0))
    else:
        replicas._judge(error, Deadline(8.0))
    assert bool(replicas._hosts.moves) is isinstance(error, DeadlinePassed)


def test_a_deadline_that_has_passed_is_that_of_the_call(replicas: Replicas) -> None:
    with pytest.raises(DeadlinePassed):
        replicas._judge(DeadlinePassed(), Deadline(0.0))

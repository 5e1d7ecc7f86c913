"""The key of the advisory lock, compared with sqlx's, and the pauses while another migrator holds the lock."""

import pytest

from db.migrator import LockLimits
from db.migrator.lock import _pause, lock_key
from tests.cases import in_case


@pytest.mark.parametrize(("database", "key"), [("postgres", 368907709894077238), ("", 0)])
def test_the_key_is_the_same_as_sqlxs(database: str, key: int) -> None:
    assert lock_key(database) == key


def test_databases_of_one_server_have_different_keys() -> None:
    assert lock_key("groundwork") != lock_key("groundwork_template")


def test_a_long_wait_has_pauses_of_a_second_at_most() -> None:
    for attempts in (10, 2_000, 100_000):
        with in_case(attempts):
            assert 0.05 <= _pause(0) <= 0.25
            assert 0.5 <= _pause(attempts) <= 1
            assert all(pause is None or 0 < pause <= 3 for pause in LockLimits(attempts=attempts).pauses())

"""The key of the advisory lock, compared with sqlx's."""

import pytest

from db.migrator.lock import lock_key


@pytest.mark.parametrize(("database", "key"), [("postgres", 368907709894077238), ("", 0)])
def test_the_key_is_the_same_as_sqlxs(database: str, key: int) -> None:
    assert lock_key(database) == key


def test_databases_of_one_server_have_different_keys() -> None:
    assert lock_key("groundwork") != lock_key("groundwork_template")

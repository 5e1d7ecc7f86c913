"""The migrations that a drill applies to data of an earlier time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.backup.checks import apply_later_migrations
from ops.backup.evidence import CheckFailed
from tests.conftest import Database


def test_a_drill_applies_migrations_as_role_migrator_and_only_if_one_is_pending(
    empty_database: Database, tmp_path: Path
) -> None:
    used: list[str] = []

    def url_of(role: str) -> str:
        used.append(role)
        return empty_database.url(role)

    (tmp_path / "0001_first.up.sql").write_text("GRANT SELECT ON _sqlx_migrations TO app")
    reverted_since = tmp_path / "0002_reverted.up.sql"
    reverted_since.write_text("CREATE TABLE reverted (id int PRIMARY KEY)")
    done = apply_later_migrations(tmp_path, url_of)
    assert done == "applied 0001_first.up.sql, 0002_reverted.up.sql"
    used.clear()
    reverted_since.unlink()
    assert apply_later_migrations(tmp_path, url_of) == "none is pending"
    assert used == ["app"]
    (tmp_path / "0003_wrong.up.sql").write_text("ALTER TABLE no_such_table ADD COLUMN x int")
    with pytest.raises(CheckFailed, match=r"`groundwork migrate up` would fail after a restore: .*no_such"):
        apply_later_migrations(tmp_path, url_of)

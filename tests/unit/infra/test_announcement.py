"""The program lists all migrations if the database does not exist yet, and none otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra import schema

PENDING = "pending migration: 1_a.sql"
UNKNOWN = "Postgres is not running, so pending migrations are not known; `up` applies them"


@pytest.mark.parametrize(
    ("there", "dry_run", "said"),
    [
        (set(), True, [PENDING]),
        (set(), False, [PENDING]),
        # After `down` the migrations are applied, but no server can be asked.
        ({"data"}, True, [UNKNOWN]),
        ({"data"}, False, []),
        ({"data", "server"}, True, []),
    ],
)
def test_migrations_are_listed_if_there_is_no_database_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: set[str], dry_run: bool, said: list[str]
) -> None:
    def inspect(kind: str, name: str) -> list[dict[str, Any]]:
        return [{"State": {"Running": True}}] if name in there else []

    found: list[str] = []
    monkeypatch.setattr(schema, "inspect", inspect)
    monkeypatch.setattr("pulumi.log.info", found.append)
    monkeypatch.setattr("pulumi.runtime.is_dry_run", lambda: dry_run)
    (tmp_path / "1_a.sql").write_text("SELECT 1;\n")
    schema.announce_first(tmp_path, volume="data", container="server")
    assert found == said

"""`seed` reports the rows of whatever tables the sample data has."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ops.commands.seed import seed


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        ({}, "no rows"),
        ({"invoices": 3}, "3 invoices"),
        ({"users": 1, "invoices": 3, "items": 0}, "1 users, 3 invoices and 0 items"),
    ],
)
def test_seed_prints_the_rows_of_each_table(
    loaded: dict[str, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.commands.seed.require_database", lambda url: None)
    monkeypatch.setattr("db.seed.load_sample_data", lambda url: loaded)
    done = CliRunner().invoke(
        seed, ["--url", "postgresql://app@127.0.0.1:9/groundwork"], catch_exceptions=False
    )
    assert done.stdout == f"sample data (generated): {said} inserted or changed\n"

"""The URLs that `groundwork env` prints for clients that accept no list of servers."""

from __future__ import annotations

import pytest

from ops.stack import connections
from tests.promises import promise
from tests.unit.db.fake_server import fake_servers

REST = "groundwork?sslmode=disable"


@promise("`groundwork env` prints URLs of one server for clients that accept no list")
def test_the_url_of_the_present_primary() -> None:
    with fake_servers("replica", "primary") as (replica, primary):
        servers = f"127.0.0.1:{replica.port},127.0.0.1:{primary.port}"
        url = f"postgresql://app@{servers}/{REST}&connect_timeout=2&target_session_attrs=primary"
        expected = f"postgresql://app@127.0.0.1:{primary.port}/{REST}"
        assert connections.primaries_of({"DATABASE_URL": url}) == {"DATABASE_PRIMARY_URL": expected}


def test_without_a_primary_the_reason_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_servers("replica", "replica") as servers:
        listed = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        url = f"postgresql://app@{listed}/{REST}&target_session_attrs=primary"
        assert connections.primaries_of({"DATABASE_URL": url}) == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("without DATABASE_PRIMARY_URL: no Postgres server is the primary (")
    assert "server is in hot standby mode" in line


def test_a_single_server_has_no_url_of_its_primary() -> None:
    url = f"postgresql://app@127.0.0.1:1/{REST}"
    assert connections.primaries_of({"DATABASE_URL": url}) == {}

"""The URLs that `groundwork env` prints for clients that accept no list of servers, and the stack of a URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
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
        assert connections.primaries_of({"DATABASE_URL": url}, "dev") == {"DATABASE_PRIMARY_URL": expected}


def test_without_a_primary_the_reason_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_servers("replica", "replica") as servers:
        listed = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        url = f"postgresql://app@{listed}/{REST}&target_session_attrs=primary"
        assert connections.primaries_of({"DATABASE_URL": url}, "prod") == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("without DATABASE_PRIMARY_URL: no Postgres server is the primary (")
    assert "server is in hot standby mode" in line
    assert line.endswith("see `groundwork cluster status --stack prod`")


def test_a_single_server_has_no_url_of_its_primary() -> None:
    url = f"postgresql://app@127.0.0.1:1/{REST}"
    assert connections.primaries_of({"DATABASE_URL": url}, "dev") == {}


def test_the_stack_of_a_redis_is_found_by_the_address_of_any_of_its_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Checkout(tmp_path, "1a2b3c", tmp_path / "state", tmp_path / "cache")
    monkeypatch.setattr(Checkout, "here", lambda: checkout)

    def endpoint(port: int) -> dict[str, object]:
        return {"host": "localhost", "port": port}

    of_prod = {"redis": endpoint(6001), "redisServers": [endpoint(6001), endpoint(6002)]}
    for stack, found in {
        "dev": {"redis": endpoint(6000)},
        "prod": of_prod,
        "damaged": None,
        "new": {},
    }.items():
        (tmp_path / f"Pulumi.{stack}.yaml").touch()
        file = checkout.state_file(stack)
        file.parent.mkdir(parents=True, exist_ok=True)
        resource = {"type": "pulumi:pulumi:Stack", "outputs": found}
        latest = {"latest": {"resources": [resource]}}
        file.write_text("damaged" if found is None else json.dumps({"checkpoint": latest}))
    (tmp_path / "Pulumi.never-up.yaml").touch()
    assert connections.stack_of_redis({"localhost:6002"}) == "prod"
    assert connections.stack_of_redis({"localhost:6000"}) == "dev"
    assert connections.stack_of_redis({"localhost:6003"}) is None

"""A stack over time, in a world of its own: changed, broken, killed and removed. The tests build on one another."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

import psycopg
import pytest

from infra.docker.engine import docker, inspect, psql
from infra.docker.stack import METRICS_VOLUME
from infra.spec import monitoring
from ops.pulumi_stack import PulumiStack
from tests.infra.checkout import Checkout
from tests.scale import IS_FULL


@pytest.fixture(scope="module")
def up(checkout: Checkout) -> Checkout:
    checkout.succeed("up")
    return checkout


def _container(checkout: Checkout, service: str) -> str:
    return checkout.world.name("dev", service)


def _users(checkout: Checkout) -> int:
    sql = "SELECT count(*) FROM groundwork.users"
    return int(psql(_container(checkout, "postgres"), sql, database="groundwork"))


def _monitoring(checkout: Checkout) -> list[dict[str, Any]]:
    return inspect("container", *(_container(checkout, service) for service in monitoring.SERVICES))


def test_a_wrong_passphrase_is_one_line_and_harms_nothing(up: Checkout) -> None:
    path, state = up.world.passphrase_file, PulumiStack(up.world, "dev").state_file
    right, before = path.read_text(), state.read_bytes()
    path.write_text("wrong")
    done = up.run("up")
    path.write_text(right)
    assert done.returncode == 1
    assert "passphrase" in done.stderr.splitlines()[-1]
    assert state.read_bytes() == before


def test_a_second_up_changes_nothing(up: Checkout) -> None:
    assert "unchanged" in up.succeed("up")
    changes = up.succeed("preview")
    assert "unchanged" in changes
    assert not any(f" {sign} " in changes for sign in ("+", "~", "-", "+-"))


def test_data_outlives_the_container_that_wrote_it(up: Checkout) -> None:
    up.succeed("seed")
    rows, before = _users(up), inspect("container", _container(up, "postgres"))[0]["Id"]
    up.settings(postgresMaxConnections=120)
    up.succeed("up")
    assert inspect("container", _container(up, "postgres"))[0]["Id"] != before
    assert _users(up) == rows > 0


def test_down_keeps_the_data_and_the_addresses(up: Checkout) -> None:
    rows, url = _users(up), up.succeed("env", "--role", "app")
    up.succeed("down")
    assert not inspect("container", *(_container(up, service) for service in ("postgres", "redis", "access")))
    assert not inspect("network", up.world.name("dev", "data"))
    up.succeed("up")
    assert _users(up) == rows
    assert up.succeed("env", "--role", "app") == url


def test_a_pending_migration_is_named_by_preview_and_applied_by_up(up: Checkout) -> None:
    folder = up.root / "db" / "migrations"
    (folder / "9001_notes.up.sql").write_text("CREATE TABLE notes (id bigint PRIMARY KEY);\n")
    (folder / "9001_notes.down.sql").write_text("DROP TABLE notes;\n")
    assert "pending migration: 9001_notes.up.sql" in up.succeed("preview")
    up.succeed("up")
    table = psql(_container(up, "postgres"), "SELECT to_regclass('groundwork.notes')", database="groundwork")
    assert table.strip() == "groundwork.notes"


def test_a_failed_migration_fails_the_up_with_file_line_and_statement(up: Checkout) -> None:
    bad = up.root / "db" / "migrations" / "9002_bad.up.sql"
    bad.write_text("CREATE TABLE half (id bigint);\n\nCREATE TABEL other (id bigint);\n")
    bad.with_name("9002_bad.down.sql").write_text("DROP TABLE half;\n")
    done = up.run("up")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "pending migration: 9002_bad.up.sql" in said, said
    assert "pending migration: 9001_notes.up.sql" not in said, said
    assert "9002_bad.up.sql:3" in said, said
    assert "CREATE TABEL other" in said, said
    table = psql(_container(up, "postgres"), "SELECT to_regclass('groundwork.half')", database="groundwork")
    assert table.strip() == ""
    for path in (bad, bad.with_name("9002_bad.down.sql")):
        path.unlink()


def test_an_edited_applied_migration_is_refused_before_anything_changes(up: Checkout) -> None:
    path = up.root / "db" / "migrations" / "9001_notes.up.sql"
    text = path.read_text()
    path.write_text(text + "-- edited\n")
    for command in ("preview", "up"):
        done = up.run(command)
        assert done.returncode == 1
        assert (
            "9001_notes.up.sql: this migration was applied and has been edited" in done.stdout + done.stderr
        )
    path.write_text(text)
    assert "unchanged" in up.succeed("up")


def test_another_subnet_moves_the_network_and_keeps_the_data(up: Checkout) -> None:
    rows = _users(up)
    network = up.world.name("dev", "data")
    (before,) = inspect("network", network)
    subnet = IPv4Network(before["IPAM"]["Config"][0]["Subnet"])
    # Half of what the stack leased: nobody else's.
    half = next(subnet.subnets())
    up.settings(networkSubnet=str(half))
    up.succeed("up")
    (after,) = inspect("network", network)
    assert after["IPAM"]["Config"][0]["Subnet"] == str(half)
    assert after["Id"] != before["Id"]
    assert _users(up) == rows


def test_monitoring_comes_by_a_setting(up: Checkout) -> None:
    assert not inspect("volume", up.world.name("dev", METRICS_VOLUME))
    # With it the network goes back to what was leased.
    up.settings(monitoring=True)
    said = up.succeed("up")
    assert "(Prometheus)" in said
    assert len(_monitoring(up)) == len(monitoring.SERVICES)
    assert "unchanged" in up.succeed("up")


@pytest.fixture(scope="module")
def bare(up: Checkout) -> str:
    """What the `up` said that took monitoring and backups away."""
    up.settings(backups=False)
    return up.succeed("up")


def test_monitoring_goes_and_what_was_measured_stays(up: Checkout, bare: str) -> None:
    volume = up.world.name("dev", METRICS_VOLUME)
    assert f"volume {volume} keeps what was measured" in bare
    assert _monitoring(up) == []
    assert inspect("volume", volume)


def test_a_stack_without_backups_says_how_to_have_them(up: Checkout, bare: str) -> None:
    refused = up.run("backup")
    assert refused.returncode == 1
    assert "set groundwork:backups to true" in refused.stderr


def test_a_stack_without_backups_gets_them_and_keeps_its_rows(up: Checkout, bare: str) -> None:
    rows = _users(up)
    up.settings()
    up.succeed("up")
    assert _users(up) == rows
    made = json.loads(up.succeed("backup", "--json"))
    assert made["type"] == "full"


def test_a_restore_takes_back_rows_fits_the_stack_and_leaves_up_nothing_to_do(up: Checkout) -> None:
    rows = _users(up)
    # A backup's stop is told in whole seconds: the second of the one just made cannot be restored to.
    time.sleep(1)
    moment = datetime.now(UTC).isoformat()
    psql(_container(up, "postgres"), "DELETE FROM groundwork.users", database="groundwork")
    refused = up.run("restore", "--to", moment)
    assert refused.returncode == 7
    assert _users(up) == 0
    done = json.loads(up.succeed("restore", "--to", moment, "--yes", "--json"))
    assert done["isServing"]
    assert _users(up) == rows
    assert "unchanged" in up.succeed("up")
    url = json.loads(up.succeed("env", "--role", "app", "--format", "json"))["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (rows,)


def test_a_drill_on_a_stack_prints_its_evidence(up: Checkout) -> None:
    found = json.loads(up.succeed("drill", "--json", "--evidence", str(up.state / "drill.json")))
    assert found == json.loads((up.state / "drill.json").read_text())
    assert found["drill"] == "ok", found
    assert found["rtoSeconds"] > 0
    assert 0 <= found["rpoSeconds"] <= 60
    assert not [name for name in up.leftovers() if name.endswith(("-drill", "-restore", "-plan"))]


@pytest.mark.parametrize("seconds", [2.5, 5.0, 8.0] if IS_FULL else [2.5, 8.0])
def test_a_killed_up_converges_on_the_next(up: Checkout, seconds: float) -> None:
    rows = _users(up)
    # Every container is replaced by this, so that the kill meets one on its way.
    up.settings(logMaxFiles=int(seconds * 2))
    process = up.start("up")
    time.sleep(seconds)
    up.kill(process)
    up.succeed("up")
    assert "unchanged" in up.succeed("up")
    assert _users(up) == rows


@pytest.mark.parametrize("seconds", [1.5, 3.0, 5.0] if IS_FULL else [1.5, 5.0])
def test_a_killed_down_is_completed_by_the_next_and_keeps_the_data(up: Checkout, seconds: float) -> None:
    rows = _users(up)
    process = up.start("down")
    time.sleep(seconds)
    up.kill(process)
    up.succeed("down")
    assert not inspect("container", *(_container(up, service) for service in ("postgres", "redis", "access")))
    assert not inspect("network", up.world.name("dev", "data"))
    up.succeed("up")
    assert "unchanged" in up.succeed("up")
    assert _users(up) == rows


def test_plain_pulumi_works_after_shellenv(up: Checkout) -> None:
    done = up.plain_pulumi("pulumi up --yes && pulumi preview --expect-no-changes")
    assert done.returncode == 0, done.stdout + done.stderr


def test_plain_pulumi_destroys_what_there_is(up: Checkout) -> None:
    done = up.plain_pulumi("pulumi destroy --yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert up.leftovers() == []


def test_an_interrupted_creation_leaves_nothing_that_stops_the_next_up(up: Checkout) -> None:
    """The worst case of a kill, made by hand: a container and a network exist that the state never saw."""
    labels = [f"--label={key}={value}" for key, value in up.world.labels("dev").items()]
    docker("network", "create", *labels, up.world.name("dev", "data"))
    docker("create", "--name", _container(up, "redis"), *labels, "debian:bookworm-slim", "true")
    said = up.succeed("up")
    assert "which an interrupted run had left behind" in said


def test_down_goes_on_where_a_container_is_gone(up: Checkout) -> None:
    docker("rm", "--force", _container(up, "redis"))
    up.succeed("down")
    assert not inspect("container", *(_container(up, service) for service in ("postgres", "redis", "access")))
    up.succeed("up")


def test_a_destroyed_stack_leaves_nothing_behind(up: Checkout) -> None:
    up.succeed("down", "--volumes", "--yes")
    assert up.leftovers() == []

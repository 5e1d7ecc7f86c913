"""The life of a stack in its own checkout: changed, broken, killed and removed.

Each test continues from the previous one. Several tests check one `up`, because an `up` takes longer than the checks.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

import psycopg
import pytest

from infra.docker import ownership
from infra.docker.engine import docker, inspect, label_options, psql
from infra.docker.stack import METRICS_VOLUME
from infra.images.context import BASE_IMAGE
from infra.spec import backup_repository, monitoring
from ops.errors import Exit
from ops.stack.pulumi_stack import PulumiStack
from tests.in_turns import run_in_turns
from tests.infra.checkout import CheckoutCopy
from tests.promises import promise
from tests.scale import IS_FULL


@pytest.fixture(scope="module")
def up(checkout: CheckoutCopy) -> CheckoutCopy:
    """Create a stack with monitoring and without backups. Later tests change both."""
    checkout.settings(backups=False, monitoring=True)
    assert "(Prometheus)" in checkout.succeed("up")
    assert len(_monitoring(checkout)) == len(monitoring.SERVICES)
    return checkout


def _container(checkout: CheckoutCopy, service: str) -> str:
    return checkout.identity.name("dev", service)


def _in_docker(checkout: CheckoutCopy) -> set[tuple[str, str, str]]:
    """Return the stack's resources: by id, and volumes by their creation time."""
    found = {(each.kind, each.name, each.id) for each in ownership.resources(checkout.identity, "dev")}
    volumes = [name for kind, name, _ in found if kind == ownership.VOLUME]
    return found | {("made", each["Name"], each["CreatedAt"]) for each in inspect("volume", *volumes)}


def _users(checkout: CheckoutCopy) -> int:
    sql = "SELECT count(*) FROM groundwork.users"
    return int(psql(_container(checkout, "postgres"), sql, database="groundwork"))


def _monitoring(checkout: CheckoutCopy) -> list[dict[str, Any]]:
    return inspect("container", *(_container(checkout, service) for service in monitoring.SERVICES))


def _containers(checkout: CheckoutCopy) -> list[str]:
    services = ("postgres", "redis", "access")
    return [found["Id"] for found in inspect("container", *(_container(checkout, s) for s in services))]


def _volumes(checkout: CheckoutCopy) -> list[str]:
    """Return the volumes with data, which `down` keeps."""
    names = [checkout.identity.name("dev", f"{server}-data") for server in ("postgres", "redis")]
    found = [volume["Name"] for volume in inspect("volume", *names)]
    assert len(found) == 2
    return found


def _is_gone(checkout: CheckoutCopy) -> bool:
    return not _containers(checkout) and not inspect("network", checkout.identity.name("dev", "data"))


def test_wrong_passphrase_fails_in_one_line_and_changes_nothing(up: CheckoutCopy) -> None:
    path, state = up.identity.passphrase_file, PulumiStack(up.identity, "dev").state_file
    right, before = path.read_text(), state.read_bytes()
    path.write_text("wrong")
    done = up.run("up")
    path.write_text(right)
    assert done.returncode == 1
    assert "passphrase" in done.stderr.splitlines()[-1]
    assert state.read_bytes() == before


@promise("dropping the data asks first, and needs `--yes` without a terminal")
def test_down_volumes_without_a_terminal_needs_yes(up: CheckoutCopy) -> None:
    done = up.run("down", "--volumes")
    assert done.returncode == Exit.REFUSED
    assert "--yes" in done.stderr
    assert _users(up) == 0


def test_backup_commands_without_backups_name_the_setting(up: CheckoutCopy) -> None:
    refused = up.run("backup")
    assert refused.returncode == 1
    assert "set groundwork:backups to true" in refused.stderr


# The lines of Pulumi's output at which `up` is killed. The settings replace every container, so
# that one is being replaced at that time.
UP_KILLED_AT = "Container redis creating replacement"
UP_ALSO_KILLED_AT = ["Container redis deleting original", "Container redis created replacement"]


@dataclass(frozen=True)
class Change:
    """The stack before an `up` with several changed settings and a new migration, and the output of the commands."""

    rows: int
    containers: list[str]
    network: dict[str, Any]
    subnet: IPv4Network
    previewed: str
    said: str


@pytest.fixture(scope="module")
def change(up: CheckoutCopy) -> Change:
    """Apply other parameters, another subnet, backups, no monitoring and a new migration. The first `up` is killed."""
    up.succeed("seed")
    (network,) = inspect("network", up.identity.name("dev", "data"))
    # Half of the subnet that the stack leased, so that no other stack uses it.
    subnet = next(IPv4Network(network["IPAM"]["Config"][0]["Subnet"]).subnets())
    rows, containers = _users(up), _containers(up)
    folder = up.root / "db" / "migrations"
    (folder / "9001_notes.up.sql").write_text("CREATE TABLE notes (id bigint PRIMARY KEY);\n")
    (folder / "9001_notes.down.sql").write_text("DROP TABLE notes;\n")
    up.settings(postgresMaxConnections=120, networkSubnet=str(subnet))
    previewed = up.succeed("preview")
    up.run_until(UP_KILLED_AT, "up")
    return Change(rows, containers, network, subnet, previewed, up.succeed("up"))


@promise("an interrupted `make up` resumes where it stopped")
@promise("no change of a setting replaces a data volume")
def test_killed_up_that_replaces_every_container_is_completed_by_the_next_one(
    up: CheckoutCopy, change: Change
) -> None:
    assert len(_containers(up)) == len(change.containers) == 3
    assert not set(_containers(up)) & set(change.containers)
    assert _users(up) == change.rows > 0


@promise("no change of a setting replaces a data volume")
def test_changed_subnet_moves_the_network_and_keeps_the_data(up: CheckoutCopy, change: Change) -> None:
    (after,) = inspect("network", up.identity.name("dev", "data"))
    assert after["IPAM"]["Config"][0]["Subnet"] == str(change.subnet)
    assert after["Id"] != change.network["Id"]


@promise("`preview` names pending migrations, and `up` applies them")
def test_preview_names_a_pending_migration_and_up_applies_it(up: CheckoutCopy, change: Change) -> None:
    assert "pending migration: 9001_notes.up.sql" in change.previewed
    table = psql(_container(up, "postgres"), "SELECT to_regclass('groundwork.notes')", database="groundwork")
    assert table.strip() == "groundwork.notes"


@promise("a setting turns monitoring on and off, and the measurements are kept")
def test_monitoring_is_disabled_by_a_setting_and_its_metrics_are_kept(
    up: CheckoutCopy, change: Change
) -> None:
    volume = up.identity.name("dev", METRICS_VOLUME)
    assert f"volume {volume} keeps the collected metrics" in change.said
    assert _monitoring(up) == []
    assert inspect("volume", volume)


@promise("backups can be enabled on a stack that has rows")
def test_enabling_backups_keeps_the_rows(up: CheckoutCopy, change: Change) -> None:
    assert _users(up) == change.rows
    made = json.loads(up.succeed("backup", "--json"))
    assert made["type"] == "full"


OF_ANOTHER_STATE = [
    ["up"],
    ["preview"],
    ["down"],
    ["down", "--volumes", "--yes"],
    ["status"],
    ["psql"],
    ["backup"],
    ["rotate", "passwords", "--all", "--yes"],
    ["adopt", "--yes"],
]


@promise("a command changes nothing that another state owns in Docker, and names the owner")
def test_another_state_changes_nothing_and_learns_the_owner(up: CheckoutCopy) -> None:
    """As after `sudo make up`: the same checkout, and therefore the same names in Docker."""
    another, before = replace(up, state=up.state.with_name("another")), _in_docker(up)
    commands = [(command, {}) for command in OF_ANOTHER_STATE]
    ended = run_in_turns(*commands, folder=another.root, environment=another.environment())
    for command, (code, _, error) in zip(OF_ANOTHER_STATE, ended, strict=True):
        (line,) = error.splitlines()
        assert code == Exit.REFUSED, (command, line)
        assert str(up.identity.state_dir) in line, (command, line)
    assert _in_docker(up) == before
    assert not another.identity.state_file("dev").exists()


@pytest.mark.skipif(
    not IS_FULL, reason="tests/integration/migrator/test_resource.py has it without the engine"
)
def test_failed_migration_fails_the_up_with_file_line_and_statement(up: CheckoutCopy) -> None:
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


@pytest.mark.skipif(
    not IS_FULL, reason="tests/integration/migrator/test_refusals.py has it without the engine"
)
@promise("a migration that was edited after it was applied is refused before anything runs")
def test_edited_applied_migration_is_refused_before_anything_changes(up: CheckoutCopy) -> None:
    path = up.root / "db" / "migrations" / "9001_notes.up.sql"
    text, before = path.read_text(), _containers(up)
    path.write_text(text + "-- edited\n")
    done = up.run("up")
    path.write_text(text)
    assert done.returncode == 1
    assert "9001_notes.up.sql was edited after it was applied" in done.stdout + done.stderr
    assert _containers(up) == before != []


@pytest.mark.skipif(not IS_FULL, reason="the `up` of the changed settings is killed at another moment")
@promise("an interrupted `make up` resumes where it stopped")
@pytest.mark.parametrize("moment", UP_ALSO_KILLED_AT)
def test_up_killed_at_another_moment_is_completed_by_the_next_one(
    up: CheckoutCopy, change: Change, moment: str
) -> None:
    rows = _users(up)
    up.settings(networkSubnet=str(change.subnet), logMaxFiles=UP_ALSO_KILLED_AT.index(moment) + 4)
    up.run_until(moment, "up")
    up.succeed("up")
    assert _users(up) == rows


@promise("a restore brings back what was deleted and takes back what came later")
def test_restore_reverts_rows_and_keeps_the_stack_consistent(up: CheckoutCopy) -> None:
    rows = _users(up)
    # A backup's stop time is in whole seconds, so the second in which it stopped cannot be restored to.
    time.sleep(1)
    moment = datetime.now(UTC).isoformat()
    psql(_container(up, "postgres"), "DELETE FROM groundwork.users", database="groundwork")
    refused = up.run("restore", "--to", moment)
    assert refused.returncode == 7
    assert _users(up) == 0
    done = json.loads(up.succeed("restore", "--to", moment, "--yes", "--json"))
    assert done["isServing"]
    assert _users(up) == rows
    url = json.loads(up.succeed("env", "--role", "app", "--format", "json"))["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (rows,)


@promise("an `up` of an unchanged stack changes nothing")
def test_up_after_a_killed_one_and_a_restore_changes_nothing(up: CheckoutCopy) -> None:
    before = _in_docker(up)
    said = up.succeed("up")
    assert "unchanged" in said
    assert not any(f" {sign} " in said for sign in ("+", "~", "-", "+-"))
    assert _in_docker(up) == before


def test_drill_prints_its_evidence(up: CheckoutCopy) -> None:
    found = json.loads(up.succeed("drill", "--json", "--evidence", str(up.state / "drill.json")))
    assert found == json.loads((up.state / "drill.json").read_text())
    assert found["drill"] == "ok", found
    assert found["rtoSeconds"] > 0
    assert 0 <= found["rpoSeconds"] <= 60
    assert not [name for name in up.leftovers() if name.endswith(("-drill", "-restore")) or "-plan-" in name]


@promise("a stack whose state is lost is adopted with its data, and its backups are set aside")
def test_adopting_a_lost_state_keeps_the_rows_and_sets_backups_aside(up: CheckoutCopy) -> None:
    rows = _users(up)
    up.state.rename(up.state.with_name("lost"))
    refused = up.run("up")
    assert refused.returncode == Exit.REFUSED
    assert "`groundwork adopt --stack dev`" in refused.stderr
    folder = re.search(r"in folder (set-aside-\S+) of volume", up.succeed("adopt", "--yes"))
    assert folder is not None
    up.succeed("up")
    assert _users(up) == rows > 0
    # Next to the repository with the lost key there is a new one, which this state can read and write.
    assert json.loads(up.succeed("backup", "--json"))["type"] == "full"
    kept = docker("exec", _container(up, "postgres"), "ls", f"{backup_repository.FOLDER}/{folder[1]}")
    assert kept.split() == ["archive", "backup"]


# The lines of Pulumi's output at which `down` is killed.
DOWN_KILLED_AT = ["Container redis deleting", "Container redis deleted"]


@pytest.fixture(scope="module")
def before_down(up: CheckoutCopy) -> tuple[int, str]:
    """Return the number of users, the addresses and the credentials before the first `down`."""
    return _users(up), up.succeed("env", "--role", "app")


@promise("a killed `down` is completed by the next one and keeps the data")
@promise("`down` keeps data, secrets and addresses")
@pytest.mark.parametrize("moment", DOWN_KILLED_AT if IS_FULL else DOWN_KILLED_AT[:1])
def test_killed_down_is_completed_by_the_next_one_and_keeps_the_data(
    up: CheckoutCopy, before_down: tuple[int, str], moment: str
) -> None:
    if _is_gone(up):
        up.succeed("up")
    volumes = _volumes(up)
    up.run_until(moment, "down")
    # A container that was removed by hand does not stop the next `down`.
    docker("rm", "--force", _container(up, "access"))
    assert "pulumi stack rm" not in up.succeed("down")
    assert _is_gone(up)
    assert _volumes(up) == volumes


@promise("plain `pulumi` works on a stack after `shellenv`")
@promise("an interrupted `make up` resumes where it stopped")
@promise("`down` keeps data, secrets and addresses")
def test_plain_pulumi_works_after_shellenv_and_resumes_an_interrupted_creation(
    up: CheckoutCopy, before_down: tuple[int, str]
) -> None:
    """The worst case of a kill, simulated: a container and a network exist that are not in the state."""
    assert _is_gone(up)
    labels = label_options(ownership.labels(up.identity, "dev"))
    docker("network", "create", *labels, up.identity.name("dev", "data"))
    docker("create", "--name", _container(up, "redis"), *labels, BASE_IMAGE, "true")
    done = up.plain_pulumi("pulumi up --yes")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "which an interrupted run had left behind" in said
    # The migrations are applied, although no server could be queried.
    assert "pending migration: " not in said
    rows, url = before_down
    assert _users(up) == rows > 0
    assert up.succeed("env", "--role", "app") == url


@promise("plain `pulumi` works on a stack after `shellenv`")
@promise("a destroyed stack leaves no container, network or volume behind")
def test_plain_pulumi_destroy_removes_everything(up: CheckoutCopy) -> None:
    """conftest.py checks the same for `groundwork down --volumes` when it removes the live stack."""
    done = up.plain_pulumi("pulumi destroy --yes --skip-preview")
    assert done.returncode == 0, done.stdout + done.stderr
    assert up.leftovers() == []

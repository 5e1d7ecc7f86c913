"""The Postgres server: version 15, checksums, UTF-8, parameters, and data after a restart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from infra.docker.checked_parameters import check
from infra.docker.engine import docker
from infra.spec import backup_repository, postgres, rds, rds_defaults
from infra.spec.errors import SettingError
from tests import containers
from tests.containers import Server, build_image
from tests.integration.postgres.conftest import open_connection
from tests.promises import promise

GIVEN = {"work_mem": "3MB", "log_min_duration_statement": "250ms", "fsync": "on", "ssl": "off"}
# The parameters that containers.postgres_server sets: those of a stack, except fsync.
EXPECTED = postgres.parameters(512 * 1024**2, 100, GIVEN) | {"fsync": "off"}
# These are always zero over a local socket. A test below reads them over TCP.
TCP_ONLY = {"tcp_keepalives_idle"}


@pytest.fixture(scope="module")
def server(docker_engine: None) -> Iterator[Server]:
    """A server for this module only, which has other parameters and is restarted."""
    with containers.postgres_server(GIVEN) as server:
        yield server


@pytest.fixture(scope="module")
def live(server: Server) -> dict[str, str]:
    names = ", ".join(f"('{name}')" for name in EXPECTED)
    rows = server.psql(f"SELECT name, current_setting(name) FROM (VALUES {names}) AS asked (name)")
    return dict(line.split("|", 1) for line in rows.splitlines())


def test_the_server_is_postgres_15(server: Server) -> None:
    assert server.psql("SHOW server_version_num").startswith("15")


@promise("data checksums are on, and PGDATA is private")
def test_data_checksums_are_on(server: Server) -> None:
    assert server.psql("SHOW data_checksums").strip() == "on"


def test_text_is_utf_8_everywhere(server: Server) -> None:
    encodings = server.psql(
        "SELECT DISTINCT pg_encoding_to_char(encoding) || ' ' || datcollate FROM pg_database"
    )
    assert encodings.strip() == "UTF8 C.UTF-8"


def test_every_parameter_is_in_force(live: dict[str, str]) -> None:
    names = EXPECTED.keys() - TCP_ONLY
    assert {name: live[name] for name in names} == {name: EXPECTED[name] for name in names}


def test_a_parameter_of_connections_over_tcp_is_in_force(server: Server) -> None:
    with open_connection(server, "migrator") as connection:
        assert connection.execute("SHOW tcp_keepalives_idle").fetchall() == [("60",)]


def test_a_given_parameter_wins_but_not_over_a_promise(live: dict[str, str]) -> None:
    assert live["work_mem"] == "3MB"
    assert live["ssl"] == "on"


def test_every_line_of_the_configuration_was_taken(server: Server) -> None:
    assert (
        server.psql("SELECT name, error FROM pg_file_settings WHERE NOT applied OR error IS NOT NULL") == ""
    )


def test_the_configuration_is_read_from_its_folder(server: Server) -> None:
    files = server.psql("SELECT current_setting('config_file'), current_setting('hba_file')").strip()
    assert files == f"{postgres.CONFIG_DIR}/postgresql.conf|{postgres.CONFIG_DIR}/pg_hba.conf"


def test_the_data_folder_is_closed_to_others(server: Server) -> None:
    assert server.psql("SHOW data_directory_mode").strip() == "0700"
    listed = docker("exec", server.container, "stat", "--format", "%a %u", f"{postgres.DATA_DIR}/15")
    assert listed.strip() == f"700 {postgres.UID}"


def test_the_servers_key_is_readable_by_the_server_only(server: Server) -> None:
    listed = docker(
        "exec", server.container, "stat", "--format", "%a %u", f"{postgres.CONFIG_DIR}/server.key"
    )
    assert listed.strip() == f"400 {postgres.UID}"


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_was_committed_is_there_after_a_restart(server: Server, kill: bool) -> None:
    table = f"kept_{kill}".lower()
    server.psql(f"CREATE TABLE {table} AS SELECT generate_series(1, 1000) AS n")
    server.restart(kill=kill)
    assert server.psql(f"SELECT count(*) FROM {table}").strip() == "1000"
    with open_connection(server) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_connections_are_logged_and_no_password_with_them(server: Server) -> None:
    with open_connection(server):
        pass
    log = docker("logs", server.container) + _stderr_log(server)
    assert "connection authorized: user=app_a" in log
    assert not [name for name, password in server.passwords.items() if password in log]


def _stderr_log(server: Server) -> str:
    done = subprocess.run(["docker", "logs", server.container], capture_output=True, check=True, timeout=30)
    return done.stderr.decode()


def test_the_defaults_for_rds_are_those_of_the_server(server: Server) -> None:
    """The dynamic parameters that RDS's parameter group may contain, except values that are empty or of many words."""
    rows = server.psql(
        "SELECT lower(name), CASE WHEN vartype = 'bool' THEN (boot_val = 'on')::int::text ELSE boot_val END"
        " FROM pg_settings WHERE context NOT IN ('internal', 'postmaster') AND boot_val <> ''"
        " AND boot_val !~ '[[:space:]\"]'"
    )
    found = dict(line.split("|", 1) for line in rows.splitlines())
    assert {k: v for k, v in found.items() if k not in rds.OWN_OF_RDS} == rds_defaults.POSTGRES


def test_rds_gets_numbers_for_booleans_and_names_for_switches(server: Server) -> None:
    rows = server.psql(
        "SELECT lower(name), vartype FROM pg_settings"
        " WHERE vartype = 'bool' OR vartype = 'enum' AND 'on' = ANY (enumvals)"
    )
    for name, kind in (line.split("|") for line in rows.splitlines()):
        assert rds.unitless(name, "on") == {"bool": "1", "enum": "on"}[kind], name


@promise("a bad setting is refused in one line that names it, before anything is changed")
def test_a_parameter_with_which_the_server_would_not_start_is_refused(docker_engine: None) -> None:
    wrong = {
        ("shared_buffers", "512M"): r'"512M"\. Valid units for this parameter are "B", "kB", "MB"',
        ("work_men", "4MB"): 'unrecognized configuration parameter "work_men"; correct or remove',
        ("synchronous_commit", "of"): r'"of"\. Available values: local',
        ("max_wal_senders", "it's"): r'parameter "max_wal_senders": "it\'s"',
    }
    right = {"work_mem": "9MB", "search_path": "'a\\b', c", "timezone": "Europe/Berlin", "custom.name": "ünï"}
    # Both images have the same packages of Postgres, so that one wrong parameter is enough for the other one.
    for kind, count in (("postgres", len(wrong)), ("patroni", 1)):
        image = build_image(kind)
        for (name, value), message in [*wrong.items()][:count]:
            parameters = postgres.parameters(512 * 1024**2, 100, right | {name: value})
            with pytest.raises(SettingError, match=rf"groundwork:postgresParameters: .*{message}"):
                check(image, postgres.render_conf(parameters))
        check(image, postgres.render_conf(postgres.parameters(512 * 1024**2, 100, right)))


# Runs the start of a server beside a configuration of pgBackRest and an existing data folder, instead of the server
# itself, and prints what it reports and marks for archiving.
_START = """
export PATH="/tmp/bin:$PATH" GROUNDWORK_CONFIG=/etc/groundwork
mkdir -p /tmp/bin "$PGDATA/pg_wal/archive_status"
touch "$PGDATA/pg_wal/00000002.history" "$PGDATA/PG_VERSION" "$GROUNDWORK_CONFIG/pgbackrest.conf"
printf '#!/bin/sh\\nexit 0\\n' | tee /tmp/bin/postgres > /tmp/bin/patroni
chmod +x /tmp/bin/*
"$1" 2>&1
ls "$PGDATA/pg_wal/archive_status"
"""


@pytest.mark.parametrize("program", ["groundwork-postgres", "groundwork-repository"])
def test_a_server_whose_backups_were_turned_off_keeps_no_wal_for_a_repository(
    docker_engine: None, program: str
) -> None:
    """The configuration with the key of the earlier backups stays, but the volume is not mounted any more."""
    owner = f"uid={postgres.UID},gid={postgres.UID}"
    folders = ("/etc/groundwork", postgres.DATA_DIR, "/tmp", backup_repository.FOLDER)
    image = build_image("patroni" if program == "groundwork-repository" else "postgres")
    for has_volume in (True, False):
        mounted = [f"--tmpfs={each}:exec,{owner}" for each in folders[: None if has_volume else -1]]
        run = ("run", "--rm", "--init", "--read-only", "--network=none", *mounted, "--entrypoint=sh")
        said = docker(*run, image, "-ceu", _START, "sh", program)
        assert ("cannot create the backup repository" in said) is has_volume, said
        assert has_volume or said == "", said

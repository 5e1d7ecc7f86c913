"""The Postgres server: version 15, checksums, UTF-8, parameters, and data after a restart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from infra.docker.engine import docker
from infra.spec import postgres, rds, rds_defaults
from tests import containers
from tests.containers import Server
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

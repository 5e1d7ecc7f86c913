"""Who may log in to etcd, to Patroni and to the servers as `replicator`, and what that role may do.

Every cell of the matrix in docs/security.md is tried, with the certificates of the running servers.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.docker.engine import docker
from infra.spec import etcd, postgres_cluster
from infra.spec.postgres import CONFIG_DIR, PORT
from infra.spec.roles import DATABASE, REPLICATOR
from tests.infra.cluster.conftest import LiveCluster
from tests.promises import promise

# The certificate of Redis is not for clients. None is a client without a certificate.
_CLIENTS = ("postgres-2", "etcd-1", "redis", None)
_FORBIDDEN = (
    "SELECT * FROM pg_authid",
    "CREATE ROLE another",
    "CREATE DATABASE another",
    "CREATE SCHEMA another",
    "CREATE TABLE public.another ()",
    "CREATE EXTENSION amcheck",
    "SET ROLE owner",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/another'",
    "SELECT pg_reload_conf()",
    "SELECT pg_promote()",
    "SELECT pg_switch_wal()",
    "SELECT pg_ls_waldir()",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SELECT * FROM groundwork_backup.marker",
)


@pytest.fixture(scope="module")
def certificates(
    cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str | None], Path]:
    """Return a function from a client to a folder with `ca.crt`, and with its certificate and key if it has one."""
    root = tmp_path_factory.mktemp("certificates")

    def folder_of(client: str | None) -> Path:
        folder = root / str(client)
        if not folder.exists():
            folder.mkdir()
            for name in ("ca.crt", *(("server.crt", "server.key") if client else ())):
                content = docker(
                    "exec", cluster.container(client or "postgres"), "cat", f"{CONFIG_DIR}/{name}"
                )
                (folder / name).touch(0o600)
                (folder / name).write_text(content)
        return folder

    return folder_of


def _answers(folder: Path, address: str, port: int) -> bool:
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    if (folder / "server.key").exists():
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
    try:
        with (
            socket.create_connection((address, port), 10) as plain,
            context.wrap_socket(plain, server_hostname=address) as stream,
        ):
            # With TLS 1.3 a client sees a refusal when it reads.
            stream.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return bool(stream.recv(100))
    except OSError:
        return False


def _connect(folder: Path, address: str, database: str, **options: Any) -> psycopg.Connection[Any]:
    key = folder / "server.key"
    login: dict[str, Any] = (
        {"sslcert": str(folder / "server.crt"), "sslkey": str(key)} if key.exists() else {}
    )
    return psycopg.connect(
        host=address,
        port=PORT,
        user=REPLICATOR,
        dbname=database,
        sslmode="verify-full",
        sslrootcert=str(folder / "ca.crt"),
        connect_timeout=30,
        **login,
        **options,
    )


@promise("members log in to each other and to etcd with certificates, and there is no password for it")
def test_etcd_and_patroni_answer_only_certificates_for_clients(
    cluster: LiveCluster, certificates: Callable[[str | None], Path]
) -> None:
    addresses = cluster.addresses()
    # The port for members of etcd accepts a certificate only from an address that it names, and this machine has none.
    targets = {
        "etcd": [(addresses[store], etcd.CLIENT_PORT) for store in etcd.MEMBERS],
        "members of etcd": [(addresses[store], etcd.PEER_PORT) for store in etcd.MEMBERS],
        "Patroni": [(addresses[member], postgres_cluster.REST_PORT) for member in postgres_cluster.MEMBERS],
    }
    tries = [
        (client, name, target) for client in _CLIENTS for name, each in targets.items() for target in each
    ]
    folders = {client: certificates(client) for client in _CLIENTS}
    # A refusal by a member of etcd takes 10 s, because etcd looks up a name in vain.
    with ThreadPoolExecutor(len(tries)) as threads:
        answers = threads.map(lambda each: _answers(folders[each[0]], *each[2]), tries)
    found: dict[str | None, dict[str, set[bool]]] = {client: {} for client in _CLIENTS}
    for (client, name, _), answer in zip(tries, answers, strict=True):
        found[client].setdefault(name, set()).add(answer)
    accepted = {"etcd": {True}, "members of etcd": {False}, "Patroni": {True}}
    refused = {name: {False} for name in targets}
    assert found == {"postgres-2": accepted, "etcd-1": accepted, "redis": refused, None: refused}


@promise("members log in to each other and to etcd with certificates, and there is no password for it")
@pytest.mark.parametrize("client", _CLIENTS)
def test_only_a_server_logs_in_as_replicator(
    cluster: LiveCluster, certificates: Callable[[str | None], Path], client: str | None
) -> None:
    address, folder = cluster.addresses()["postgres"], certificates(client)
    for database, options in (("postgres", {}), ("postgres", {"replication": "true"}), (DATABASE, {})):
        if client == "postgres-2" and database != DATABASE:
            _connect(folder, address, database, **options).close()
        else:
            with pytest.raises(psycopg.OperationalError):
                _connect(folder, address, database, **options)


def test_replicator_reads_the_data_folder_and_may_do_nothing_else(
    cluster: LiveCluster, certificates: Callable[[str | None], Path]
) -> None:
    address = cluster.addresses()[cluster.primary().removeprefix(cluster.container(""))]
    with _connect(certificates("postgres-2"), address, "postgres", autocommit=True) as connection:
        read = connection.execute("SELECT pg_read_binary_file('PG_VERSION')").fetchone()
        assert read == (b"15\n",)
        allowed = []
        for statement in _FORBIDDEN:
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                if error.sqlstate != "42501":
                    allowed.append(f"{statement}: {error}")
            else:
                allowed.append(statement)
    assert allowed == []


def test_replicator_has_a_connection_limit_in_a_cluster_whose_replicas_were_turned_on(
    cluster: LiveCluster,
) -> None:
    limit = cluster.sql(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{REPLICATOR}'")
    assert int(limit) == postgres_cluster.REPLICATOR_CONNECTIONS


def test_a_role_with_a_password_cannot_replicate(cluster: LiveCluster) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry for replication connection"):
        psycopg.connect(f"{cluster.url}&replication=true")

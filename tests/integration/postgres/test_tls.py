"""Postgres accepts only TLS 1.2 and later, and a verify-full client refuses any other server."""

from __future__ import annotations

import socket
import ssl
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.certificates import make_authority
from tests import containers
from tests.cases import in_case
from tests.containers import WEAK_CIPHERS, Server
from tests.integration.postgres.conftest import open_connection
from tests.promises import promise

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@pytest.fixture(scope="module")
def expired(docker_engine: None) -> Iterator[Server]:
    with containers.postgres_server(certificate_days=-1, in_memory=True) as server:
        yield server


def handshake(server: Server, version: ssl.TLSVersion, ciphers: str = "DEFAULT") -> str | None:
    """Return the TLS version negotiated by a handshake that offers only this version."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    # Also offer what OpenSSL disables by default, so that the server must refuse it.
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        plain.sendall(_SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            return wrapped.version()


def test_a_client_that_checks_everything_is_served_over_tls(stack_postgres: Server) -> None:
    with open_connection(stack_postgres) as connection:
        (row,) = connection.execute(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchall()
    assert row == (True, "TLSv1.3")


@promise("only the defined logins can connect, over TLS, with SCRAM, to the one database")
@pytest.mark.parametrize("mode", ["disable", "allow"])
def test_plaintext_is_refused(stack_postgres: Server, mode: str) -> None:
    # With `allow` libpq falls back to TLS, so that no session is without TLS.
    if mode == "allow":
        with open_connection(stack_postgres, sslmode=mode) as connection:
            assert connection.pgconn.ssl_in_use
    else:
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects .* no encryption"):
            open_connection(stack_postgres, sslmode=mode)


@promise("clients refuse a Postgres certificate of another CA, for another name, or expired")
def test_a_certificate_of_another_authority_is_refused(stack_postgres: Server, tmp_path: Path) -> None:
    other = tmp_path / "ca.crt"
    other.write_text(make_authority("groundwork tests").certificate)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        open_connection(stack_postgres, sslrootcert=str(other))


@promise("clients refuse a Postgres certificate of another CA, for another name, or expired")
def test_a_certificate_for_another_host_is_refused(stack_postgres: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"does not match host name"):
        open_connection(stack_postgres, host="elsewhere.example.org", hostaddr="127.0.0.1")


@promise("clients refuse a Postgres certificate of another CA, for another name, or expired", control=True)
def test_nothing_but_the_name_was_wrong_with_it(stack_postgres: Server) -> None:
    with open_connection(
        stack_postgres, host="elsewhere.example.org", hostaddr="127.0.0.1", sslmode="verify-ca"
    ) as connection:
        assert connection.pgconn.ssl_in_use


@promise("clients refuse a Postgres certificate of another CA, for another name, or expired")
def test_an_expired_certificate_is_refused(expired: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        open_connection(expired)


@promise("clients refuse a Postgres certificate of another CA, for another name, or expired", control=True)
def test_nothing_but_the_end_was_wrong_with_it(expired: Server) -> None:
    # libpq gives no reason. Python's TLS does, for the same CA and the same name.
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        handshake(expired, ssl.TLSVersion.TLSv1_3)
    with open_connection(expired, sslmode="require", sslrootcert="/nowhere") as connection:
        assert connection.pgconn.ssl_in_use


@promise("TLS is 1.2 or newer")
def test_an_old_version_of_tls_is_refused_by_the_server(stack_postgres: Server) -> None:
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with in_case(version), pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
            handshake(stack_postgres, version)


@promise("TLS is 1.2 or newer", control=True)
def test_a_version_of_today_is_spoken(stack_postgres: Server) -> None:
    assert handshake(stack_postgres, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert handshake(stack_postgres, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@promise("TLS uses only ciphers with forward secrecy and authenticated encryption")
def test_a_weak_cipher_is_refused_by_the_server(stack_postgres: Server) -> None:
    for cipher in WEAK_CIPHERS:
        with in_case(cipher), pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            handshake(stack_postgres, ssl.TLSVersion.TLSv1_2, cipher)


@promise("TLS uses only ciphers with forward secrecy and authenticated encryption", control=True)
def test_a_client_with_the_weak_ciphers_and_a_strong_one_is_served(stack_postgres: Server) -> None:
    offered = ":".join([*WEAK_CIPHERS, "ECDHE-ECDSA-AES256-GCM-SHA384"])
    assert handshake(stack_postgres, ssl.TLSVersion.TLSv1_2, offered) == "TLSv1.2"

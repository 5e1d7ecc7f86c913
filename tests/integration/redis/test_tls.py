"""Redis accepts only TLS 1.2 and later, and a client that checks certificate and name refuses any other server."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.certificates import make_authority
from tests import containers
from tests.cases import in_case
from tests.containers import WEAK_CIPHERS, Server
from tests.integration.redis.conftest import NO_RETRY, client_of
from tests.promises import promise


@pytest.fixture(scope="module")
def misnamed(docker_engine: None) -> Iterator[Server]:
    """A Redis with a certificate of the right CA for another host."""
    with containers.redis_server(certificate_names=["elsewhere.example.org"]) as server:
        yield server


@pytest.fixture(scope="module")
def expired(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(certificate_days=-1) as server:
        yield server


def ping(server: Server, **options: Any) -> bool:
    with client_of(server, "monitor", retry=NO_RETRY, **options) as client:
        return bool(client.ping())


def handshake(server: Server, version: ssl.TLSVersion, ciphers: str = "DEFAULT") -> str | None:
    """Return the TLS version negotiated by a handshake that offers only this version."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    # Also offer what OpenSSL disables by default, so that the server must refuse it.
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.version()


def test_a_client_that_checks_everything_is_served(redis_server: Server) -> None:
    assert ping(redis_server)


@promise("Redis accepts nobody without TLS and a login")
def test_plaintext_is_refused(redis_server: Server) -> None:
    with (
        redis.Redis(port=redis_server.port, retry=NO_RETRY, driver_info=None, protocol=2) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()


def test_plaintext_gets_no_answer_at_all(redis_server: Server) -> None:
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        # The answer, if any, is a TLS alert (type 21).
        assert plain.recv(1)[:1] in (b"", b"\x15")


def test_a_certificate_of_another_authority_is_refused(redis_server: Server, tmp_path: Path) -> None:
    other = tmp_path / "ca.crt"
    other.write_text(make_authority("groundwork tests").certificate)
    url = redis_server.redis_url("monitor").replace(str(redis_server.ca_file), str(other))
    with (
        redis.Redis.from_url(url, driver_info=None, retry=NO_RETRY) as client,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()


def test_a_certificate_for_another_host_is_refused(misnamed: Server) -> None:
    with pytest.raises(redis.ConnectionError, match=r"Hostname mismatch|not valid for 'localhost'"):
        ping(misnamed)


def test_nothing_but_the_name_was_wrong_with_it(misnamed: Server) -> None:
    url = misnamed.redis_url("monitor").replace("ssl_check_hostname=true", "ssl_check_hostname=false")
    with redis.Redis.from_url(url, driver_info=None, retry=NO_RETRY) as client:
        assert client.ping()


def test_an_expired_certificate_is_refused(expired: Server) -> None:
    with pytest.raises(redis.ConnectionError, match="certificate has expired"):
        ping(expired)


@promise("Redis accepts nobody without TLS and a login")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=lambda v: v.name)
def test_an_old_version_of_tls_is_refused_by_the_server(
    redis_server: Server, version: ssl.TLSVersion
) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
        handshake(redis_server, version)


@promise("TLS is 1.2 or newer", control=True)
@pytest.mark.parametrize(
    ("version", "spoken"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_a_version_of_today_is_spoken(redis_server: Server, version: ssl.TLSVersion, spoken: str) -> None:
    assert handshake(redis_server, version) == spoken


@promise("TLS uses only ciphers with forward secrecy and authenticated encryption")
def test_a_weak_cipher_is_refused_by_the_server(redis_server: Server) -> None:
    for cipher in WEAK_CIPHERS:
        with in_case(cipher):
            with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
                handshake(redis_server, ssl.TLSVersion.TLSv1_2, cipher)


@promise("TLS uses only ciphers with forward secrecy and authenticated encryption", control=True)
def test_a_client_with_the_weak_ciphers_and_a_strong_one_is_served(redis_server: Server) -> None:
    offered = ":".join([*WEAK_CIPHERS, "ECDHE-ECDSA-AES256-GCM-SHA384"])
    assert handshake(redis_server, ssl.TLSVersion.TLSv1_2, offered) == "TLSv1.2"

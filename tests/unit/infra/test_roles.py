"""SCRAM verifiers, checked with the RFC's example, and what the roles' SQL must never do."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from infra.spec import roles
from tests.cases import in_case
from tests.promises import promise

# RFC 7677, section 3: user "user", password "pencil".
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_ITERATIONS = 4096
RFC_AUTH_MESSAGE = (
    "n=user,r=rOprNGfwEbeRWgbNEkqO,"
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
RFC_CLIENT_PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
RFC_SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

LIMITS = dict.fromkeys(roles.LOGINS, 7)
EVERY_LOGIN = roles.ALL_LOGINS


def _keys(verifier: str) -> tuple[bytes, bytes]:
    stored, server = verifier.rsplit("$", 1)[1].split(":")
    return base64.b64decode(stored), base64.b64decode(server)


def test_the_server_key_produces_the_rfcs_signature() -> None:
    _, server_key = _keys(roles.scram_verifier("pencil", RFC_SALT, RFC_ITERATIONS))
    signature = hmac.digest(server_key, RFC_AUTH_MESSAGE.encode(), "sha256")
    assert base64.b64encode(signature).decode() == RFC_SERVER_SIGNATURE


def test_the_stored_key_accepts_the_rfcs_client_proof() -> None:
    stored_key, _ = _keys(roles.scram_verifier("pencil", RFC_SALT, RFC_ITERATIONS))
    signature = hmac.digest(stored_key, RFC_AUTH_MESSAGE.encode(), "sha256")
    proof = base64.b64decode(RFC_CLIENT_PROOF)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored_key


def test_another_password_fails_the_rfcs_client_proof() -> None:
    stored_key, _ = _keys(roles.scram_verifier("Pencil", RFC_SALT, RFC_ITERATIONS))
    signature = hmac.digest(stored_key, RFC_AUTH_MESSAGE.encode(), "sha256")
    proof = base64.b64decode(RFC_CLIENT_PROOF)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() != stored_key


def test_a_verifier_has_the_format_of_pg_authid() -> None:
    verifier = roles.scram_verifier("pencil", RFC_SALT)
    assert verifier.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert [len(key) for key in _keys(verifier)] == [32, 32]


def test_a_verifier_depends_only_on_secret_and_salt() -> None:
    assert roles.scram_verifier("pencil", b"0" * 16) == roles.scram_verifier("pencil", b"0" * 16)
    assert roles.scram_verifier("pencil", b"0" * 16) != roles.scram_verifier("pencil", b"1" * 16)


def test_a_non_ascii_password_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        roles.scram_verifier("pässword", RFC_SALT)


def test_a_login_gets_its_verifier_and_connection_limit() -> None:
    for login in EVERY_LOGIN:
        with in_case(login):
            sql = roles.roles_sql({login: "SCRAM-SHA-256$4096:x"}, LIMITS)
            (line,) = (line for line in sql.splitlines() if line.startswith(f"ALTER ROLE {login} LOGIN"))
            assert "CONNECTION LIMIT 7" in line
            assert "PASSWORD 'SCRAM-SHA-256$4096:x'" in line


@promise("of a role's two logins, the unused one has no password and no session")
def test_a_login_without_a_verifier_cannot_log_in() -> None:
    for login in EVERY_LOGIN:
        with in_case(login):
            lines = roles.roles_sql({}, LIMITS).splitlines()
            (line,) = (line for line in lines if line.startswith(f"ALTER ROLE {login} NOLOGIN"))
            assert line.endswith("PASSWORD NULL;")


def test_no_role_gets_a_cluster_privilege() -> None:
    cases: list[str] = [roles.OWNER, *roles.PRIVILEGE_SETS, *EVERY_LOGIN]
    for name in cases:
        with in_case(name):
            lines = [
                line for line in roles.roles_sql({}, LIMITS).splitlines() if f"ALTER ROLE {name} " in line
            ]
            denied = {"NOSUPERUSER", "NOCREATEDB", "NOCREATEROLE", "NOREPLICATION", "NOBYPASSRLS"}
            assert denied <= set(" ".join(lines).replace(";", "").split())


@pytest.mark.parametrize("name", [roles.OWNER, *roles.PRIVILEGE_SETS])
def test_a_privilege_role_cannot_log_in(name: str) -> None:
    assert f"ALTER ROLE {name} NOLOGIN" in roles.roles_sql({}, LIMITS)


def test_a_quote_in_a_value_stays_inside_its_literal() -> None:
    sql = roles.roles_sql({"app_a": "x'; DROP ROLE app; --"}, LIMITS)
    assert "PASSWORD 'x''; DROP ROLE app; --';" in sql

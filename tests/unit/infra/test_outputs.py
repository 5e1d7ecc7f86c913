"""The connection strings in the outputs: clients parse them correctly, and verify the server."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from psycopg.conninfo import conninfo_to_dict

from infra import outputs
from infra.spec import redis_acl, roles
from tests.cases import in_case
from tests.promises import promise

# All characters with a meaning in URLs, and a generated password.
PASSWORDS = ["Zm9v-_bar", "p@ss:w/rd?#[]%&+ =", "100%25"]


CA_FILES = ["/state/ca.crt", "/state+1&2/ca.crt", "/state of mine/ca.crt"]


@promise("the printed URLs connect psql, psycopg and redis-py with CA and host name checked")
def test_libpq_parses_a_database_url() -> None:
    for ca_file in CA_FILES:
        for password in PASSWORDS:
            with in_case(ca_file, password):
                url = outputs.database_url(
                    login="app_a", password=password, host="localhost", port=21001, ca_file=ca_file
                )
                read = conninfo_to_dict(url)
                assert read == {
                    "user": "app_a",
                    "password": password,
                    "host": "localhost",
                    "port": "21001",
                    "dbname": roles.DATABASE,
                    "sslmode": "verify-full",
                    "sslrootcert": ca_file,
                }


@promise("the printed URLs connect psql, psycopg and redis-py with CA and host name checked")
def test_redis_py_parses_a_redis_url() -> None:
    for ca_file in CA_FILES:
        for password in PASSWORDS:
            with in_case(ca_file, password):
                url = outputs.redis_url(
                    user="app", password=password, servers=[("localhost", 21002)], ca_file=ca_file
                )
                pool = redis.ConnectionPool.from_url(url)
                read = pool.connection_kwargs
                assert (read["username"], read["password"]) == ("app", password)
                assert (read["host"], read["port"], read["db"]) == ("localhost", 21002, 0)
                assert read["ssl_ca_certs"] == ca_file
                assert pool.connection_class is redis.SSLConnection


def test_a_redis_url_makes_redis_py_check_certificate_and_name(tmp_path: Path) -> None:
    url = outputs.redis_url(
        user="app", password="x", servers=[("localhost", 1)], ca_file=str(tmp_path / "ca")
    )
    connection = redis.ConnectionPool.from_url(url).make_connection()
    assert isinstance(connection, redis.SSLConnection)
    assert connection.check_hostname is True
    assert connection.cert_reqs == ssl.CERT_REQUIRED


def test_a_password_in_a_url_is_fully_escaped() -> None:
    url = outputs.database_url(login="app_a", password="a/b@c", host="h", port=1, ca_file="/ca")
    parts = urlsplit(url)
    assert parts.hostname == "h"
    assert unquote(parts.password or "") == "a/b@c"
    assert parse_qs(parts.query)["sslrootcert"] == ["/ca"]


@promise("`groundwork env` prints URLs of one server for clients that accept no list")
def test_a_url_of_several_servers_becomes_one_of_one_server() -> None:
    def url(*others: tuple[str, int], reads: bool = False, port: int = 1) -> str:
        return outputs.database_url(
            login="app_a", password="a/b@c", host="h", port=port, ca_file="/ca", others=others, reads=reads
        )

    alone = url(port=3)
    assert outputs.one_server_url(url(("i", 2), ("h", 3)), "h", 3) == alone
    assert outputs.one_server_url(url(("i", 2), reads=True), "h", 3) == alone
    assert outputs.one_server_url(alone, "h", 3) == alone


def test_only_roles_that_can_read_have_a_read_url() -> None:
    assert all(outputs.ROLES[role][0] for role in outputs.READING_ROLES)


def test_a_role_of_the_outputs_exists_in_the_specifications() -> None:
    for role in outputs.ROLES:
        with in_case(role):
            login, user = outputs.ROLES[role]
            assert login or user
            assert login is None or login in roles.LOGINS
            assert user is None or user in {each.name for each in redis_acl.USERS}


def test_every_redis_user_and_postgres_role_has_a_url() -> None:
    assert {user for _, user in outputs.ROLES.values() if user} == {user.name for user in redis_acl.USERS}
    assert {login for login, _ in outputs.ROLES.values() if login} == set(roles.LOGINS)


def test_each_server_of_a_list_has_a_url_for_redis_py() -> None:
    for password in PASSWORDS:
        for ports in ([21002], [21002, 21003, 21004]):
            with in_case(password, ports):
                servers = [("localhost", port) for port in ports]
                url = outputs.redis_url(user="app", password=password, servers=servers, ca_file="/ca,1.crt")
                pools = [redis.ConnectionPool.from_url(each) for each in outputs.server_urls(url)]
                read = [pool.connection_kwargs for pool in pools]
                assert [(each["host"], each["port"]) for each in read] == servers
                assert {(each["username"], each["password"], each["db"]) for each in read} == {
                    ("app", password, 0)
                }
                assert {each["ssl_ca_certs"] for each in read} == {"/ca,1.crt"}

"""sqlx's URL parameters in libpq's terms, and the session that a connection string selects."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from db.migrator import InvalidUrl
from db.migrator.url import (
    DEFAULT_PATH,
    LEDGER,
    LOGIN_PATH,
    SEARCH_PATH,
    libpq_url,
    session_of,
    with_login_path,
    with_session,
    without_search_path,
)
from tests.cases import in_case

BASE = "postgres://me:secret@db.example:6432/shop"
# The query as sqlx reads it (sqlx-postgres, src/options/parse.rs), and libpq's parameters.
TRANSLATED = {
    "": {},
    "sslmode=VERIFY-FULL&sslrootcert=ca.crt": {"sslmode": "verify-full", "sslrootcert": "ca.crt"},
    "ssl-mode=require&ssl-root-cert=a%20b.crt": {"sslmode": "require", "sslrootcert": "a b.crt"},
    "ssl-ca=ca.crt&ssl-cert=c.crt&ssl-key=c.key": {
        "sslrootcert": "ca.crt",
        "sslcert": "c.crt",
        "sslkey": "c.key",
    },
    "statement-cache-capacity=100": {},
    "application_name=my+shop": {"application_name": "my+shop"},
    "options[search_path]=a,b&options%5Bstatement_timeout%5D=5": {
        "options": "-c search_path=a,b -c statement_timeout=5"
    },
    "options[search_path]=a%2C+b": {"options": r"-c search_path=a,\ b"},
    "options=-c%20x.y%3D1&options[z.z]=c%5Cd": {"options": r"-c x.y=1 -c z.z=c\\d"},
    "connect_timeout=3&ssl=true": {"connect_timeout": "3", "sslmode": "require"},
}


def test_sqlxs_parameters_become_those_of_libpq() -> None:
    for query in TRANSLATED:
        with in_case(query):
            given = conninfo_to_dict(libpq_url(f"{BASE}?{query}" if query else BASE))
            where = {
                "user": "me",
                "password": "secret",
                "host": "db.example",
                "port": "6432",
                "dbname": "shop",
            }
            assert given == where | TRANSLATED[query]


def test_what_has_no_sqlx_parameters_is_unchanged() -> None:
    cases: list[str] = [
        "host=x options='-c a.b=1'",
        "service=x",
        "password=a://b?c",
        "host=x password=mysql://",
        "postgres//x?y=z",
        BASE,
    ]
    for conninfo in cases:
        with in_case(conninfo):
            assert libpq_url(conninfo) == conninfo


def test_another_programs_url_is_refused_with_its_scheme() -> None:
    cases: list[str] = ["mysql", "jdbc:postgresql", "postgresql+psycopg", "POSTGRES", "sqlite", "https"]
    for scheme in cases:
        with in_case(scheme):
            with pytest.raises(InvalidUrl) as refused:
                libpq_url(f"{scheme}://me:secret@db.example/shop?sslmode=require")
            assert f"begins with {scheme}://, so it is not a Postgres URL" in str(refused.value)
            assert "secret" not in str(refused.value)


def test_a_parameter_of_neither_is_refused_by_name() -> None:
    cases: list[tuple[str, str]] = [
        ("sslmod=require", "the parameter 'sslmod', which neither libpq nor sqlx has"),
        ("sslmode=require&cache=1", "the parameter 'cache'"),
        ("options[x=1", "the parameter 'options[x'"),
        ("statement-cache-capacity=many", "statement-cache-capacity of the database URL is not a number"),
    ]
    for query, said in cases:
        with in_case(query, said):
            with pytest.raises(InvalidUrl) as refused:
                libpq_url(f"{BASE}?{query}")
            assert said in str(refused.value)
            assert "secret" not in str(refused.value)


def test_a_part_of_a_password_is_not_taken_for_a_parameter() -> None:
    assert libpq_url("postgres://me:se?cret=1@db.example/shop").endswith("?cret=1@db.example/shop")


def test_the_session_is_read_from_the_options() -> None:
    cases: list[tuple[str, dict[str, str]]] = [
        ("", {}),
        ("-c timezone=UTC", {}),
        (r"-c search_path=a,\ b -c timezone=UTC", {SEARCH_PATH: "a, b"}),
        ("-csearch_path=a --search-path=b", {SEARCH_PATH: "b"}),
        (r"--groundwork.ledger=a.\"B\ c\"".replace('\\"', '"'), {LEDGER: 'a."B c"'}),
        ("-c", {}),
    ]
    for options, session in cases:
        with in_case(options, session):
            assert session_of(options) == session


def test_options_without_the_search_path_are_otherwise_the_same() -> None:
    cases: list[tuple[str, str]] = [
        ("", ""),
        (r"-c search_path=a,\ b -c timezone=UTC", "-c timezone=UTC"),
        (r"-csearch_path=a --search-path=b -c SEARCH_PATH=c -c x.y=a\ \\b -B 3", r"-c x.y=a\ \\b -B 3"),
        ("-c groundwork.default_path=search_path=a -c", "-c groundwork.default_path=search_path=a -c"),
    ]
    for options, others in cases:
        with in_case(options, others):
            assert without_search_path(options) == others


def test_the_login_path_replaces_its_placeholder() -> None:
    options = with_login_path(f"-c {DEFAULT_PATH}={LOGIN_PATH} -c {SEARCH_PATH}=shop", '"My Schema", public')
    assert session_of(options) == {SEARCH_PATH: "shop", DEFAULT_PATH: '"My Schema", public'}


def test_the_settings_of_a_project_are_added_to_the_options_of_the_url() -> None:
    wanted = {SEARCH_PATH: 'shop, "My Schema"', LEDGER: '"My Schema"._sqlx_migrations'}
    conninfo = with_session(f"{BASE}?ssl-mode=require&options[lock_timeout]=1s", wanted)
    given = conninfo_to_dict(conninfo)
    assert (given["sslmode"], given["password"]) == ("require", "secret")
    assert session_of(str(given["options"])) == wanted
    assert "lock_timeout=1s" in str(given["options"])


def test_the_search_path_of_other_programs_is_the_one_of_the_url() -> None:
    cases: list[tuple[str, str]] = [
        ("", LOGIN_PATH),
        ("?options[search_path]=a,b", "a,b"),
        ("?options[timezone]=UTC", LOGIN_PATH),
    ]
    for query, path in cases:
        with in_case(query, path):
            wanted = {SEARCH_PATH: "shop", LEDGER: "shop._sqlx_migrations", DEFAULT_PATH: LOGIN_PATH}
            given = conninfo_to_dict(with_session(f"{BASE}{query}", wanted))
            assert session_of(str(given["options"])) == {**wanted, DEFAULT_PATH: path}
            # Settings that choose a ledger by its schema do not need the other path.
            chosen = {SEARCH_PATH: "shop", LEDGER: "shop._sqlx_migrations"}
            assert (
                session_of(str(conninfo_to_dict(with_session(f"{BASE}{query}", chosen))["options"])) == chosen
            )

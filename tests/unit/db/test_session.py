"""No PG* variable of libpq changes a connection, except those that docs/connections.md lists."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from db._sync.connection import BoundedConnection
from db.session import SENT_BY_LIBPQ, connect, pinned_conninfo
from ops.migrations.rehearsal.database_copy import _service
from tests.promises import promise

DOCUMENTED = Path(__file__).parents[3] / "docs/connections.md"
VARIABLES = sorted(option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar)
# No parameter overrides them; tests/integration/db/test_session_settings.py has them.
SENT_AS_THEY_ARE = {"PGSERVICE"}
COMPLETE = "postgresql://app:secret@127.0.0.1:{port}/groundwork?sslmode=disable&connect_timeout=5"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@promise("PG* variables change no connection, except those that the page lists")
@pytest.mark.parametrize("variable", sorted({*VARIABLES, "PGREQUIRESSL"} - SENT_AS_THEY_ARE))
def test_a_hostile_variable_does_not_change_where_and_how_we_connect(
    variable: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt reaches the closed port, so no parameter was refused and no other server was asked."""
    conninfo = COMPLETE.format(port=closed_port)
    expected = _failure(conninfo)
    assert f'"127.0.0.1", port {closed_port} failed: Connection refused' in expected
    for value in ("hostile", "192.0.2.1", "1", ""):
        monkeypatch.setenv(variable, value)
        assert _failure(conninfo) == expected


@promise("PG* variables change no connection, except those that the page lists", control=True)
@pytest.mark.parametrize("variable", ["PGHOSTADDR", "PGGSSENCMODE", "PGTARGETSESSIONATTRS"])
def test_a_hostile_variable_changes_the_plain_drivers_connection(
    variable: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "hostile")
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(COMPLETE.format(port=closed_port))
    assert "Connection refused" not in str(refused.value)


def _failure(conninfo: str) -> str:
    said = []
    for attempt in (lambda: connect(conninfo), lambda: BoundedConnection.connect(pinned_conninfo(conninfo))):
        with pytest.raises(psycopg.OperationalError) as refused:
            attempt()
        said.append(str(refused.value))
    assert said[0] == said[1]
    return said[0]


def test_the_documented_variables_fill_what_the_string_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "PGHOST": "db.example",
        "PGPORT": "6432",
        "PGUSER": "ada",
        "PGDATABASE": "shop",
        "PGPASSWORD": "pw",
        "PGSSLMODE": "require",
        "PGSSLROOTCERT": "/ca.crt",
    }
    for name, value in {**values, "PGOPTIONS": "-c x=1", "PGHOSTADDR": "192.0.2.1"}.items():
        monkeypatch.setenv(name, value)
    empty = conninfo_to_dict(pinned_conninfo(""))
    assert {name: empty[name] for name in ("host", "port", "user", "dbname", "password", "sslmode")} == {
        "host": "db.example",
        "port": "6432",
        "user": "ada",
        "dbname": "shop",
        "password": "pw",
        "sslmode": "require",
    }
    assert empty["sslrootcert"] == "/ca.crt"
    assert empty["hostaddr"] == ""
    assert "x=1" not in str(empty["options"])
    # A string with a host does not get the port of another, and one with sslmode not the authority of another.
    given = conninfo_to_dict(pinned_conninfo("host=h user=u password=p dbname=d sslmode=verify-full"))
    assert (given["port"], given["user"], given["password"], given["dbname"]) == ("5432", "u", "p", "d")
    assert (given["sslmode"], given["sslrootcert"]) == ("verify-full", "")


def test_the_page_lists_exactly_the_variables_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = set()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "7")
        if "7" in conninfo_to_dict(pinned_conninfo("")).values():
            counting.add(variable)
        monkeypatch.delenv(variable)
    section = DOCUMENTED.read_text().partition("## Variables of libpq")[2].partition("\n## ")[0]
    honoured, _, others = section.partition("Other variables")
    assert set(re.findall(r"`(PG\w+)`", honoured)) == counting
    assert {*SENT_BY_LIBPQ, "PGSERVICE"} <= set(re.findall(r"`(PG\w+)`", others))


def test_a_named_service_keeps_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "services"
    file.write_text("[prod]\nhost=db.example\nport=6432\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    given = conninfo_to_dict(pinned_conninfo("service=prod user=u"))
    assert "host" not in given
    assert "datestyle=ISO" in str(given["options"])


def test_a_service_of_the_environment_does_not_change_the_connection(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    conninfo = COMPLETE.format(port=closed_port)
    expected = _failure(conninfo)
    file = tmp_path / "services"
    file.write_text(
        "[other]\nhostaddr=192.0.2.1\ntarget_session_attrs=standby\nreplication=true\nsslcertmode=require\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "other")
    assert _failure(conninfo) == expected


def test_a_dump_gets_the_variables_that_count_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"PGHOST": "db.example", "PGPASSWORD": "pw", "PGREQUIREAUTH": "none", "PGOPTIONS": "-c x=1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    lines = _service("user=migrator dbname=shop").partition(b"\0")[0].decode().splitlines()
    assert sorted(lines) == ["[source]", "dbname=shop", "host=db.example", "password=pw", "user=migrator"]

"""What a login can do against being retired. Each attack runs as the login itself; the controls show that it works."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from infra.docker import server_roles
from infra.docker.engine import DockerError, psql
from infra.docker.server_roles import apply_roles, fingerprint
from infra.spec import roles
from infra.spec.roles import scram_verifier
from ops.rotation.login_drift import QUERY, login_differences
from tests import containers
from tests.cases import in_case
from tests.containers import Server
from tests.promises import promise

LIMITS = dict.fromkeys(roles.LOGINS, 60)
MINE = "a password of the attacker"


@pytest.fixture(scope="module")
def shared(docker_engine: None) -> Iterator[Server]:
    with containers.postgres_server(in_memory=True) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """A server whose logins all have their passwords again after each test."""
    yield shared
    apply_roles(shared.container, shared.verifiers, LIMITS)


@contextmanager
def changing(server: Server, login: str, statement: str) -> Iterator[None]:
    """Run a statement again and again in four sessions of a login, until each session ends."""

    def change(connection: psycopg.Connection) -> None:
        while not over.is_set():
            try:
                connection.execute(statement)
            except psycopg.errors.InternalError:
                pass  # tuple concurrently updated: by another of these sessions
            except psycopg.Error:
                return

    over = threading.Event()
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(closing(psycopg.connect(server.database_url(login), autocommit=True)))
            for _ in range(4)
        ]
        threads = [threading.Thread(target=change, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def retire(server: Server, login: str) -> None:
    apply_roles(server.container, {k: v for k, v in server.verifiers.items() if k != login}, LIMITS)


def gets_in(server: Server, login: str, password: str) -> bool:
    url = server.database_url(login).replace(server.passwords[login], password.replace(" ", "%20"))
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def differences(server: Server, *retired: str) -> list[str]:
    found = psql(server.container, f"SELECT json_agg(x) FROM ({QUERY}) AS x")
    digests = {
        login: roles.verifier_digest(verifier)
        for login, verifier in server.verifiers.items()
        if login not in retired
    }
    return list(login_differences(json.loads(found), digests))


@promise("of a role's two logins, the unused one has no password and no session")
@pytest.mark.parametrize("login", ["app_a", "readonly_b"])
def test_a_login_that_sets_its_password_all_the_time_is_locked_out(server: Server, login: str) -> None:
    with changing(server, login, f"ALTER ROLE {login} PASSWORD '{MINE}'"):
        retire(server, login)
        assert differences(server, login) == []
        assert not gets_in(server, login, MINE)
        assert not gets_in(server, login, server.passwords[login])


@promise("of a role's two logins, the unused one has no password and no session", control=True)
def test_a_login_without_a_password_that_keeps_login_lets_itself_in_again(server: Server) -> None:
    with psycopg.connect(server.database_url("app_a"), autocommit=True) as session:
        psql(server.container, "ALTER ROLE app_a PASSWORD NULL")
        session.execute(f"ALTER ROLE app_a PASSWORD '{MINE}'")
        psql(server.container, roles.end_sessions_sql(["app_a"], 5000))
        assert gets_in(server, "app_a", MINE)
        assert "app_a has a password and is retired" in differences(server, "app_a")


@contextmanager
def delayed_login(server: Server, login: str, seconds: int) -> Iterator[list[str]]:
    """Log in with a delay after the check of password and LOGIN. Yields the outcome: empty as long as it is delayed."""
    outcome: list[str] = []

    def log_in() -> None:
        try:
            with psycopg.connect(
                server.database_url(login), options=f"-c post_auth_delay={seconds}"
            ) as session:
                outcome.append(str(session.execute("SELECT session_user").fetchone()))
        except psycopg.OperationalError as error:
            outcome.append(f"refused: {error}")

    thread = threading.Thread(target=log_in)
    thread.start()
    try:
        containers.wait_until(lambda: bool(server.psql(roles.STARTING_SESSIONS_SQL).strip()))
        yield outcome
    finally:
        thread.join()


@promise("of a role's two logins, the unused one has no password and no session")
def test_a_login_that_delays_its_start_gets_no_session(server: Server) -> None:
    """The session is not in pg_stat_activity before its start, and LOGIN was checked before the delay."""
    with delayed_login(server, "app_a", seconds=60) as outcome:
        assert outcome == []
        retire(server, "app_a")
        assert not server.psql(roles.STARTING_SESSIONS_SQL).strip()
        assert differences(server, "app_a") == []
    assert outcome[0].startswith("refused: ")


@promise("of a role's two logins, the unused one has no password and no session", control=True)
def test_ending_the_visible_sessions_misses_a_delayed_one(server: Server) -> None:
    with delayed_login(server, "app_a", seconds=5) as outcome:
        psql(server.container, roles.no_login_sql(["app_a"]))
        assert psql(server.container, roles.end_sessions_sql(["app_a"], 5000)).strip() == ""
    assert outcome == ["('app_a',)"]


@pytest.mark.parametrize("retired", ["app_a", "app_b"], ids=["by the retired login", "by the login in use"])
def test_a_change_of_a_role_in_an_open_transaction_does_not_stop_a_rotation(
    server: Server, retired: str
) -> None:
    with psycopg.connect(server.database_url("app_a")) as session:
        session.execute("SET idle_in_transaction_session_timeout = 0")
        session.execute(f"ALTER ROLE app_a PASSWORD '{MINE}'")
        retire(server, retired)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert differences(server, retired) == []


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        ("migrator", "GRANT USAGE ON SCHEMA groundwork TO readonly"),
        ("migrator", "DROP SCHEMA groundwork CASCADE"),
        ("readonly_a", "SET TRANSACTION READ WRITE; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app"),
    ],
)
def test_a_session_that_blocks_the_grants_is_ended(server: Server, login: str, statement: str) -> None:
    with psycopg.connect(server.database_url(login)) as session:
        session.execute("SET idle_in_transaction_session_timeout = 0")
        session.execute(statement)  # type: ignore[call-overload]
        if "DEFAULT" in statement:
            # An entry that exists: the change of it is what the next transaction waits for.
            session.commit()
            session.execute(statement)  # type: ignore[call-overload]
        apply_roles(server.container, server.verifiers, LIMITS)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_foreign_session_that_blocks_the_grants_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's session is not ended."""
    monkeypatch.setattr(server_roles, "_EXCLUSIVELY", server_roles._EXCLUSIVELY.replace("'60s'", "'5s'"))
    server.psql("CREATE ROLE operator SUPERUSER LOGIN PASSWORD 'secret' IN ROLE app")
    url = (
        server.database_url("app_a").replace("app_a", "operator").replace(server.passwords["app_a"], "secret")
    )
    try:
        with psycopg.connect(url) as session:
            session.execute("LOCK TABLE pg_namespace IN ROW EXCLUSIVE MODE")
            named = rf"that the change needs: {session.info.backend_pid} operator; end their transactions"
            with pytest.raises(DockerError, match=named):
                apply_roles(server.container, server.verifiers, LIMITS)
            session.execute("SELECT 1")
    finally:
        server.psql("DROP ROLE operator")


def test_default_privileges_that_a_login_sets_are_reset(server: Server) -> None:
    entries = "SELECT count(*), count(*) FILTER (WHERE defaclrole = 'owner'::regrole) FROM pg_default_acl"
    before = fingerprint(server.container)
    changes = [
        *(
            f"GRANT ALL ON {types} TO app"
            for types in ("TABLES", "SEQUENCES", "FUNCTIONS", "TYPES", "SCHEMAS")
        ),
        "IN SCHEMA groundwork GRANT SELECT ON TABLES TO app, PUBLIC",
        "IN SCHEMA groundwork GRANT EXECUTE ON FUNCTIONS TO app WITH GRANT OPTION",
        "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "REVOKE ALL ON TYPES FROM CURRENT_USER, PUBLIC",
        "FOR ROLE {role} GRANT SELECT ON TABLES TO monitor",
    ]
    for login, role in (("readonly_a", "readonly"), ("app_b", "app"), ("migrator", "migrator")):
        with in_case(login), psycopg.connect(server.database_url(login), autocommit=True) as session:
            session.execute("SET default_transaction_read_only = off; SET ROLE NONE")
            for change in changes:
                session.execute(f"ALTER DEFAULT PRIVILEGES {change.format(role=role)}".encode())
            assert fingerprint(server.container) != before
    with psycopg.connect(server.database_url("migrator"), autocommit=True) as migrator:
        migrator.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO readonly")
        apply_roles(server.container, server.verifiers, LIMITS)
        assert server.psql(entries, roles.DATABASE).strip() == "1|1"
        migrator.execute("ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM readonly")
    assert fingerprint(server.container) == before


def test_a_login_in_use_that_changes_itself_all_the_time_does_not_stop_a_rotation(server: Server) -> None:
    with changing(server, "app_b", f"ALTER ROLE app_b PASSWORD '{MINE}'"):
        for _ in range(3):
            retire(server, "app_a")
            assert not [line for line in differences(server, "app_a") if "app_a" in line]


def test_without_the_lock_such_a_login_stops_it(server: Server) -> None:
    def apply_naively() -> None:
        for _ in range(50):
            psql(
                server.container, roles.roles_sql(server.verifiers, LIMITS), options=["--single-transaction"]
            )

    with (
        changing(server, "app_b", f"ALTER ROLE app_b PASSWORD '{MINE}'"),
        pytest.raises(DockerError, match="tuple concurrently updated"),
    ):
        apply_naively()


@pytest.mark.parametrize("login", ["app_a", "migrator"])
def test_what_a_login_changed_of_itself_is_seen_and_put_back(server: Server, login: str) -> None:
    before = fingerprint(server.container)
    changes = [
        f"ALTER ROLE {login} SET search_path = 'evil'",
        f"ALTER ROLE {login} IN DATABASE groundwork SET lock_timeout = 0",
        f"ALTER ROLE {login} RESET ALL",
        f"ALTER ROLE {login} PASSWORD '{MINE}'",
    ]
    with psycopg.connect(server.database_url(login), autocommit=True) as session:
        session.execute("SET ROLE NONE")
        for change in changes:
            session.execute(change)  # type: ignore[call-overload]
            assert fingerprint(server.container) != before
    apply_roles(server.container, server.verifiers, LIMITS)
    assert fingerprint(server.container) == before


def test_a_membership_that_nobody_specified_is_revoked(server: Server) -> None:
    before = fingerprint(server.container)
    psql(server.container, "GRANT pg_read_all_data TO readonly; GRANT app TO readonly_a WITH ADMIN OPTION")
    assert fingerprint(server.container) != before
    apply_roles(server.container, server.verifiers, LIMITS)
    assert fingerprint(server.container) == before


def test_no_verifier_can_be_read_by_role_monitor_or_in_the_log(docker_engine: None) -> None:
    """Every way to log statements is on. The control is a password that an operator sets by hand."""
    logged = {
        "log_statement": "all",
        "log_min_duration_statement": "0",
        "log_min_error_statement": "debug5",
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_nested_statements": "on",
        "pg_stat_statements.track": "all",
    }
    seen = (
        "SELECT string_agg(query, '') FROM pg_stat_activity",
        "SELECT string_agg(query, '') FROM extensions.pg_stat_statements",
    )
    with containers.postgres_server(logged, in_memory=True) as server:
        # Not those of the server's first roles, which are made without a transaction.
        verifiers = server.verifiers | {"app_a": scram_verifier("another", bytes(16))}
        apply_roles(server.container, verifiers, LIMITS)
        psql(server.container, f"ALTER ROLE app_b PASSWORD '{MINE}'")
        with psycopg.connect(server.database_url("monitor_a")) as monitor:
            shown = [monitor.execute(query).fetchone() for query in seen]  # type: ignore[call-overload]
        log = subprocess.run(
            ["docker", "logs", server.container], capture_output=True, text=True, check=True
        ).stderr
        assert MINE in log
        assert MINE in str(shown)
        assert verifiers["app_a"].partition("$")[2] not in log + str(shown)
        # What an older version left behind goes with the next `up`.
        psql(server.container, f"ALTER ROLE app_b PASSWORD '{verifiers['app_b']}'")
        apply_roles(server.container, verifiers, LIMITS)
        with psycopg.connect(server.database_url("monitor_a")) as monitor:
            assert "SCRAM-SHA-256$4096" not in str(monitor.execute(seen[1]).fetchone())  # type: ignore[call-overload]

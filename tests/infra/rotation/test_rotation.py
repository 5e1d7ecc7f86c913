"""Rotations of a live stack under a load of eight callers: nobody sees an error, killed or not, and naive ways fail.

The callers work through the whole module; each test looks at what they saw meanwhile.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import psycopg
import pytest

from infra import outputs
from infra.docker.engine import docker, inspect, psql
from infra.spec import redis as redis_spec
from infra.spec.monitoring import POSTGRES_EXPORTER, REDIS_EXPORTER
from infra.spec.roles import scram_verifier
from infra.spec.world import World
from ops.errors import Exit
from ops.pulumi_stack import PulumiStack
from tests.containers import wait_until
from tests.infra.checkout import ROOT
from tests.infra.conftest import STACK, LiveStack, groundwork
from tests.infra.killing import run_until_killed
from tests.infra.rotation.load import Load, load_on
from tests.infra.rotation.logins import all_urls, gets_in, login_of, urls_of_app

SERVICES = ("postgres", "redis", "access")
EXPORTERS = (POSTGRES_EXPORTER, REDIS_EXPORTER)


@pytest.fixture(scope="module")
def load(live_stack: LiveStack) -> Iterator[Load]:
    with load_on(live_stack) as running:
        yield running


@pytest.fixture
def unharmed(live_stack: LiveStack, load: Load) -> Iterator[Load]:
    """Whatever the test does, the callers see no error, and every container is the one it was."""
    before, containers = load.look(), _starts(live_stack)
    yield load
    load.go_on()
    seen = load.look().since(before)
    assert seen.errors == []
    assert seen.cache_errors == 0
    assert _starts(live_stack) == containers


def _starts(stack: LiveStack) -> dict[str, tuple[str, str]]:
    found = {service: stack.inspect(service) for service in SERVICES}
    return {service: (c["Id"], c["State"]["StartedAt"]) for service, c in found.items()}


def _rotate(*arguments: str) -> dict[str, Any]:
    done: dict[str, Any] = json.loads(groundwork("rotate", *arguments, "--stack", STACK, "--yes", "--json"))
    return done


BOTH = {"DATABASE_URL": True, "REDIS_URL": True}
NEITHER = {"DATABASE_URL": False, "REDIS_URL": False}


def test_a_password_is_rotated_in_both_servers_under_load(unharmed: Load) -> None:
    old = urls_of_app()
    before = unharmed.look()
    done = _rotate("passwords", "app", "--grace", "5")
    new = urls_of_app()
    login = done["roles"]["app"]["login"]
    assert {login_of(old), login} == {"app_a", "app_b"}
    assert login_of(new) == login
    assert (done["roles"]["app"]["phase"], done["oldPasswords"]) == ("at rest", "void")
    # Nobody had to be thrown out: pools and the access service had moved.
    assert done["endedSessions"] == {}
    assert (gets_in(old), gets_in(new)) == (NEITHER, BOTH)
    unharmed.go_on()
    assert unharmed.look().since(before).logins[login] > 0


def test_every_other_role_is_rotated_at_once_and_no_process_shows_a_password(unharmed: Load) -> None:
    roles = ("readonly", "monitor", "migrator", "ops", "rotator")
    old = all_urls()
    exporters = _exporters()
    with _processes_watched() as shown:
        assert set(_rotate("passwords", *roles, "--grace", "0")["roles"]) == set(roles)
    new = all_urls()
    # Those of role monitor read the new one when they start: they are others, and get in.
    assert not set(exporters) & set(_exporters())
    for metric in ("pg_up", "redis_up"):
        wait_until(lambda metric=metric: _is_up(metric, since=exporters), 120)  # type: ignore[misc]
    for role in set(roles) - {"rotator"}:
        assert not any(gets_in(old[role]).values()), role
        assert all(gets_in(new[role]).values()), role
    everything = b"\n".join(shown)
    assert b"ops.cli" in everything
    assert not [role for role, urls in new.items() if _is_in(urls, everything)]


def _exporters() -> dict[str, float]:
    """The containers of the exporters, by id: when they were started (seconds since 1970)."""
    found = [inspect("container", World.here().name(STACK, service))[0] for service in EXPORTERS]
    return {c["Id"]: datetime.fromisoformat(c["State"]["StartedAt"][:19] + "Z").timestamp() for c in found}


def _is_up(metric: str, since: Mapping[str, float]) -> bool:
    """Whether the stack's Prometheus last saw a metric as 1, in a scrape of an exporter that is there now."""
    url = PulumiStack(World.here(), STACK).public_outputs()[outputs.PROMETHEUS_URL]
    started = max(_exporters().values())
    assert started > max(since.values())
    query = urlencode({"query": f"{metric} == 1 and timestamp({metric}) > {started}"})
    with urlopen(f"{url}/api/v1/query?{query}", timeout=30) as answer:
        return bool(json.load(answer)["data"]["result"])


@contextmanager
def _processes_watched() -> Iterator[set[bytes]]:
    """The command lines and environments of every process there is meanwhile."""
    shown: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for path in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
                with suppress(OSError):
                    shown.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield shown
    finally:
        over.set()
        watcher.join()


def _is_in(urls: dict[str, str], everything: bytes) -> bool:
    return any(str(urlsplit(url).password).encode() in everything for url in urls.values())


def test_certificates_are_renewed_under_load(live_stack: LiveStack, unharmed: Load) -> None:
    before = _served(live_stack)
    done = _rotate("certificates")
    assert done["renewed"] == ["servers"]
    after = _served(live_stack)
    assert all(before[server] != after[server] for server in before)
    assert _rotate("certificates", "--days", "30")["renewed"] == []
    assert _served(live_stack) == after


def test_the_authority_is_renewed_under_load(live_stack: LiveStack, unharmed: Load) -> None:
    ca_file = Path(live_stack.outputs[outputs.CA_FILE])
    old = ca_file.read_text()
    done = _rotate("certificates", "--authority", "--grace", "3")
    assert len(done["certificates"]) == 3
    assert ca_file.read_text().count("BEGIN CERTIFICATE") == 1
    assert ca_file.read_text() != old
    _served(live_stack)
    with pytest.raises(ssl.SSLCertVerificationError):
        _served(live_stack, authorities=old)


def _served(stack: LiveStack, authorities: str | None = None) -> dict[str, str]:
    """The serial numbers that the servers present, verified."""
    trusted = authorities or Path(stack.outputs[outputs.CA_FILE]).read_text()
    context = ssl.create_default_context(cadata=trusted)
    addresses = {service: stack.outputs[service] for service in ("postgres", "redis")}
    return {
        service: _serial(service, (a["host"], int(a["port"])), context) for service, a in addresses.items()
    }


def _serial(service: str, address: tuple[str, int], context: ssl.SSLContext) -> str:
    import socket
    import struct

    with socket.create_connection(address, timeout=10) as plain:
        if service == "postgres":
            plain.sendall(struct.pack("!ii", 8, 80877103))
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            certificate = secured.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])


@pytest.mark.parametrize(
    ("says", "then"),
    [
        ("step 1 of 3", "redis-files updating"),
        ("finishing the step", "@ updating"),
        ("step 2 of 3", "access-files updating"),
        ("sessions of", ""),
        ("step 3 of 3", "roles updating"),
    ],
)
def test_a_rotation_killed_at_a_step_goes_on_and_locks_nobody_out(
    unharmed: Load, says: str, then: str
) -> None:
    """The same command each time: the cases after the first go on where the one before was killed."""
    command = ("rotate", "passwords", "app", "--grace", "15", "--stack", STACK, "--yes")
    run_until_killed(command, says=says, then=then)
    assert gets_in(urls_of_app()) == BOTH


def test_what_was_killed_comes_to_its_end(unharmed: Load) -> None:
    done = _rotate("passwords", "app", "--grace", "3")
    assert done["oldPasswords"] == "void"
    assert done["roles"]["app"]["phase"] == "at rest"
    assert gets_in(urls_of_app()) == BOTH


def test_an_up_after_rotations_changes_nothing(unharmed: Load) -> None:
    said = groundwork("up", "--stack", STACK)
    assert "unchanged" in said
    assert not any(f" {sign} " in said for sign in ("+", "~", "-", "+-"))


def test_a_rotation_under_way_is_told_by_preview_and_status(unharmed: Load) -> None:
    old = urls_of_app()
    assert _rotate("passwords", "app", "--keep-old")["oldPasswords"] == "accepted"
    assert (gets_in(old), gets_in(urls_of_app())) == (BOTH, BOTH)
    assert "rotation under way: app is moved" in groundwork("preview", "--stack", STACK)
    code, report = _status()
    assert code == Exit.PENDING
    assert "app: the new one is in use" in report["due"][0]
    # Somebody who did not move is told of, and ended.
    with psycopg.connect(old["DATABASE_URL"], autocommit=True) as late:
        assert _rotate("passwords", "app", "--grace", "0")["endedSessions"] == {login_of(old): 1}
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            late.execute("SELECT 1")
    code, report = _status()
    assert (code, report["due"], report["mismatches"]) == (Exit.FINE, [], [])
    assert report["passwords"]["app"]["ageDays"] == 0
    assert report["certificates"]["redis"]["isServed"] is True


def _status() -> tuple[int, dict[str, Any]]:
    done = _run("status", "--json")
    return done.returncode, json.loads(done.stdout)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "rotate", *arguments, "--stack", STACK],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["passwords", "nobody", "--yes"], Exit.USAGE, "no role 'nobody'"),
        (["passwords", "--yes"], Exit.USAGE, "name roles, or say --all"),
        (["passwords", "app"], Exit.REFUSED, "needs --yes"),
        (["certificates"], Exit.REFUSED, "needs --yes"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_changes_nothing(
    unharmed: Load, arguments: list[str], code: Exit, words: str
) -> None:
    urls = urls_of_app()
    done = _run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
    assert urls_of_app() == urls


@pytest.mark.parametrize("what", ["passwords", "certificates"])
def test_a_server_that_is_frozen_is_one_line_and_changes_nothing(live_stack: LiveStack, what: str) -> None:
    urls = urls_of_app()
    with _paused(live_stack.container("redis")):
        done = _run(what, *(["app"] if what == "passwords" else []), "--yes")
    assert done.returncode == Exit.UNREACHABLE
    assert len(done.stderr.strip().splitlines()) == 1
    assert "redis of stack 'test' does not run" in done.stderr
    assert urls_of_app() == urls


@contextmanager
def _paused(container: str) -> Iterator[None]:
    docker("pause", container)
    try:
        yield
    finally:
        docker("unpause", container)


# The controls: what the callers see where it is done the naive way.


def test_a_password_changed_in_place_is_seen_as_errors(live_stack: LiveStack, load: Load) -> None:
    container = live_stack.container("postgres")
    kept = psql(container, "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'app\\__'")
    logins = dict(line.split("|") for line in kept.splitlines() if line.split("|")[1])
    assert len(logins) == 1
    ((login, verifier),) = logins.items()
    before = load.look()
    psql(container, f"ALTER ROLE {login} PASSWORD '{scram_verifier('another', bytes(16))}'")
    try:
        _wait_for_errors(load, before, "Postgres")
    finally:
        psql(container, f"ALTER ROLE {login} PASSWORD '{verifier}'")
    load.go_on()


def test_an_old_password_of_redis_removed_first_is_seen_as_errors(live_stack: LiveStack, load: Load) -> None:
    container = live_stack.container("redis")
    before = load.look()
    _as_rotator(container, f"ACL SETUSER app resetpass #{'0' * 64}")
    try:
        _wait_for_errors(load, before, "Redis")
    finally:
        docker("exec", container, *redis_spec.RELOAD)
    load.go_on()


def test_an_acl_load_cuts_connections_and_the_reload_does_not(live_stack: LiveStack, load: Load) -> None:
    first = _connections_of_app()
    # Whoever logs in anew has another connection by then.
    load.go_on()
    lasting = first & _connections_of_app()
    assert lasting
    docker("exec", live_stack.container("redis"), *redis_spec.RELOAD)
    load.go_on()
    assert lasting <= _connections_of_app()
    groundwork("redis-cli", "--stack", STACK, "ACL", "LOAD")
    assert lasting.isdisjoint(_connections_of_app())
    # They come back by the files of today: the password, and the authority, that were rotated under them.
    wait_until(lambda: load.go_on().cache_errors == 0, 60)


def _connections_of_app() -> set[int]:
    """The numbers of the connections that user app has in Redis."""
    listed = groundwork("redis-cli", "--stack", STACK, "CLIENT", "LIST")
    clients = [
        dict(word.partition("=")[::2] for word in line.split()) for line in listed.splitlines() if line
    ]
    return {int(c["id"]) for c in clients if c.get("user") == "app"}


def _wait_for_errors(load: Load, before: Any, words: str) -> None:
    wait_until(lambda: any(words in error for error in load.look().since(before).errors), 60)


def _as_rotator(container: str, command: str) -> None:
    script = (
        f"cd {redis_spec.CONFIG_DIR}; {{ printf 'AUTH rotator '; cat rotator.password; echo; echo '{command}'; }}"
        f" | redis-cli -h localhost -p {redis_spec.PORT} --tls --cacert ca.crt"
    )
    assert docker("exec", container, "sh", "-c", script).split() == ["OK", "OK"]


def test_no_secret_of_a_rotation_is_in_what_docker_shows_or_in_clear_in_the_state(
    live_stack: LiveStack,
) -> None:
    secrets = [str(urlsplit(url).password) for urls in all_urls().values() for url in urls.values()]
    assert len(secrets) == 7
    state = PulumiStack(World.here(), STACK).state_file.read_text()
    assert not [secret for secret in secrets if secret in state]
    for service in SERVICES:
        shown = json.dumps(inspect("container", live_stack.container(service)))
        logs = subprocess.run(
            ["docker", "logs", live_stack.container(service)], capture_output=True, text=True, check=True
        )
        for secret in secrets:
            assert secret not in shown + logs.stdout + logs.stderr

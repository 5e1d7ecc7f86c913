"""Rotations of a live stack under the load of eight callers. No caller sees an error, even after a kill.

The callers run during the whole module. Each test checks what they saw meanwhile. Negative controls show that naive
ways cause errors.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
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
from infra.spec.checkout import Checkout
from infra.spec.monitoring import POSTGRES_EXPORTER, REDIS_EXPORTER
from infra.spec.roles import scram_verifier
from infra.spec.rotation import ROLES
from ops.errors import Exit
from ops.rotation.subject import RotatedStack
from ops.stack.pulumi_stack import PulumiStack
from tests.containers import pause, wait_until
from tests.infra.checkout import ROOT
from tests.infra.conftest import STACK, LiveStack, groundwork
from tests.infra.killing import run_until_killed
from tests.infra.rotation.load import Load, load_on
from tests.infra.rotation.logins import all_urls, gets_in, login_of, urls_of_app
from tests.promises import promise
from tests.scale import IS_FULL

SERVICES = ("postgres", "redis", "access")
EXPORTERS = (POSTGRES_EXPORTER, REDIS_EXPORTER)
_YOUNG_SECONDS = 10.0


@pytest.fixture(scope="module")
def load(live_stack: LiveStack) -> Iterator[Load]:
    with load_on(live_stack) as running:
        yield running


@pytest.fixture
def unharmed(live_stack: LiveStack, load: Load) -> Iterator[Load]:
    """Check that during the test the callers see no error, and that no container is replaced."""
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


def _sessions(login: str) -> int:
    return RotatedStack(Checkout.here(), STACK).sessions([login]).get(login, 0)


BOTH = {"DATABASE_URL": True, "REDIS_URL": True}


@promise("callers see no error while passwords are rotated")
@promise("a killed rotation resumes at its step, and locks nobody out")
@promise("a rotation under way is shown by `preview` and `rotate status`")
def test_every_password_is_rotated_in_both_servers_under_load(unharmed: Load) -> None:
    """Kill the rotation in its second step, with SCALE=full in its last one too, and resume it.

    No process shows a password.
    """
    old = all_urls()
    old_app = old["app"]
    before, exporters = unharmed.look(), _exporters()
    rotate = ("rotate", "passwords", "--all", "--stack", STACK, "--yes")
    with _processes_watched() as shown:
        run_until_killed((*rotate, "--keep-old"), says="step 2 of 3", then="access-files updating")
        assert gets_in(urls_of_app()) == BOTH
        assert _rotate("passwords", "--all", "--keep-old")["oldPasswords"] == "accepted"
        assert (gets_in(old_app), gets_in(urls_of_app())) == (BOTH, BOTH)
        # Pools and the access service switch automatically. A grace period in seconds would fit only one machine.
        wait_until(lambda: _sessions(login_of(old_app)) == 0, 120)
        assert "rotation in progress: app is moved" in groundwork("preview", "--stack", STACK)
        code, report = _status()
        assert code == Exit.PENDING
        assert any("app: the new one is in use" in line for line in report["due"])
        with psycopg.connect(old_app["DATABASE_URL"], autocommit=True) as late:
            said = ""
            if IS_FULL:
                said = run_until_killed((*rotate, "--grace", "0"), says="step 3 of 3", then="roles updating")
                assert gets_in(urls_of_app()) == BOTH
            last = _run("passwords", "--all", "--grace", "0", "--yes", "--json")
            assert last.returncode == Exit.FINE, last.stderr
            assert f"sessions of the old logins: {login_of(old_app)} has 1;" in said + last.stderr
            done = json.loads(last.stdout)
            with pytest.raises(psycopg.OperationalError, match="terminating connection"):
                late.execute("SELECT 1")
    new = all_urls()
    assert set(done["roles"]) == set(ROLES)
    assert {role["phase"] for role in done["roles"].values()} == {"at rest"}
    assert done["oldPasswords"] == "void"
    login = done["roles"]["app"]["login"]
    assert {login_of(old_app), login} == {"app_a", "app_b"}
    assert login_of(new["app"]) == login
    for role in new:
        assert not any(gets_in(old[role]).values()), role
        assert all(gets_in(new[role]).values()), role
    # Role monitor's clients read a password only when they start, so their containers were replaced, and log in.
    assert not set(exporters) & set(_exporters())
    for metric in ("pg_up", "redis_up"):
        wait_until(lambda metric=metric: _is_up(metric, since=exporters), 120)  # type: ignore[misc]
    everything = b"\n".join(shown)
    assert b"ops.cli" in everything
    assert not [role for role, urls in new.items() if _is_in(urls, everything)]
    unharmed.go_on()
    assert unharmed.look().since(before).logins[login] > 0
    code, report = _status()
    assert (code, report["due"], report["mismatches"]) == (Exit.FINE, [], [])
    assert report["passwords"]["app"]["ageDays"] == 0
    assert report["certificates"]["redis"]["isServed"] is True


def _exporters() -> dict[str, float]:
    """Return the start times of the exporters' containers by id, in seconds since 1970."""
    found = [inspect("container", Checkout.here().name(STACK, service))[0] for service in EXPORTERS]
    return {c["Id"]: datetime.fromisoformat(c["State"]["StartedAt"][:19] + "Z").timestamp() for c in found}


def _is_up(metric: str, since: Mapping[str, float]) -> bool:
    """Return whether the metric was 1 in Prometheus's last scrape, after the exporter's current start."""
    url = PulumiStack(Checkout.here(), STACK).public_outputs()[outputs.PROMETHEUS_URL]
    started = max(_exporters().values())
    assert started > max(since.values())
    query = urlencode({"query": f"{metric} == 1 and timestamp({metric}) > {started}"})
    with urlopen(f"{url}/api/v1/query?{query}", timeout=30) as answer:
        return bool(json.load(answer)["data"]["result"])


@contextmanager
def _processes_watched() -> Iterator[set[bytes]]:
    """Collect the command lines and environments of every process that runs during the block."""
    shown: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        seen: dict[str, float] = {}
        while not over.wait(0.1):
            now = time.monotonic()
            present = {process.name for process in Path("/proc").glob("[0-9]*")}
            seen = {name: seen.get(name, now) for name in present}
            # An older one has long executed its program.
            for name in (name for name, since in seen.items() if now - since < _YOUNG_SECONDS):
                with suppress(OSError):
                    process = Path("/proc", name)
                    shown.update((process / part).read_bytes() for part in ("cmdline", "environ"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield shown
    finally:
        over.set()
        watcher.join()


def _is_in(urls: dict[str, str], everything: bytes) -> bool:
    return any(str(urlsplit(url).password).encode() in everything for url in urls.values())


@promise("callers see no error while certificates and the authority are renewed")
def test_certificates_are_renewed_under_load(live_stack: LiveStack, unharmed: Load) -> None:
    before = _served(live_stack)
    done = _rotate("certificates")
    assert done["renewed"] == ["servers"]
    after = _served(live_stack)
    assert all(before[server] != after[server] for server in before)
    assert _rotate("certificates", "--days", "30")["renewed"] == []
    assert _served(live_stack) == after


@promise("callers see no error while certificates and the authority are renewed")
def test_the_authority_is_renewed_under_load(live_stack: LiveStack, unharmed: Load) -> None:
    ca_file = Path(live_stack.outputs[outputs.CA_FILE])
    old = ca_file.read_text()
    done = _rotate("certificates", "--authority", "--grace", "10")
    assert len(done["certificates"]) == 3
    assert ca_file.read_text().count("BEGIN CERTIFICATE") == 1
    assert ca_file.read_text() != old
    _served(live_stack)
    with pytest.raises(ssl.SSLCertVerificationError):
        _served(live_stack, authorities=old)


def _served(stack: LiveStack, authorities: str | None = None) -> dict[str, str]:
    """Return the serial numbers of the certificates that the servers present, after verification."""
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


@pytest.mark.skipif(not IS_FULL, reason="the rotation of every password is killed in another step")
@promise("a killed rotation resumes at its step, and locks nobody out")
@pytest.mark.parametrize(
    ("says", "then"),
    [("step 1 of 3", "redis-files updating"), ("finishing an interrupted step", "@ updating")],
)
def test_killed_rotation_resumes_and_every_login_still_works(unharmed: Load, says: str, then: str) -> None:
    """The second case resumes what the first one left, and is killed while it does."""
    command = ("rotate", "passwords", "app", "--keep-old", "--stack", STACK, "--yes")
    run_until_killed(command, says=says, then=then)
    assert gets_in(urls_of_app()) == BOTH
    if says == "finishing an interrupted step":
        assert _rotate("passwords", "app", "--grace", "0")["roles"]["app"]["phase"] == "at rest"


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


REFUSED: list[tuple[list[str], Exit, str]] = [
    (["passwords", "nobody", "--yes"], Exit.USAGE, "unknown role 'nobody'"),
    (["passwords", "--yes"], Exit.USAGE, "pass either role names or --all"),
    (["passwords", "app"], Exit.REFUSED, "pass --yes"),
    (["certificates"], Exit.REFUSED, "pass --yes"),
]


@promise("an impossible rotation fails in one line and changes nothing")
def test_impossible_rotation_fails_in_one_line_and_changes_nothing(live_stack: LiveStack) -> None:
    state = PulumiStack(Checkout.here(), STACK).state_file
    before = state.read_bytes()
    for arguments, code, words in REFUSED:
        done = _run(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert len(done.stderr.strip().splitlines()) == 1
        assert words in done.stderr
    assert state.read_bytes() == before


@promise("an impossible rotation fails in one line and changes nothing")
def test_frozen_server_fails_the_rotation_in_one_line_and_changes_nothing(live_stack: LiveStack) -> None:
    state = PulumiStack(Checkout.here(), STACK).state_file
    before = state.read_bytes()
    with _paused(live_stack.container("redis")):
        for arguments in (["passwords", "app"], ["certificates"]):
            done = _run(*arguments, "--yes")
            assert done.returncode == Exit.UNREACHABLE
            assert len(done.stderr.strip().splitlines()) == 1
            assert "redis of stack 'test' does not run" in done.stderr
    assert state.read_bytes() == before


@contextmanager
def _paused(container: str) -> Iterator[None]:
    pause(container)
    try:
        yield
    finally:
        docker("unpause", container)


# Negative controls: what the callers see if it is done the naive way.


@promise("callers see no error while passwords are rotated", control=True)
def test_changing_a_password_in_place_causes_errors(live_stack: LiveStack, load: Load) -> None:
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


@promise("callers see no error while passwords are rotated", control=True)
def test_removing_the_old_redis_password_first_causes_errors(live_stack: LiveStack, load: Load) -> None:
    container = live_stack.container("redis")
    before = load.look()
    _as_rotator(container, f"ACL SETUSER app resetpass #{'0' * 64}")
    try:
        _wait_for_errors(load, before, "Redis")
    finally:
        docker("exec", container, *redis_spec.RELOAD)
    load.go_on()


@promise("callers see no error while certificates and the authority are renewed", control=True)
def test_acl_load_closes_connections_and_our_reload_does_not(live_stack: LiveStack, load: Load) -> None:
    first = _connections_of_app()
    # A caller that logs in again has another connection by then.
    load.go_on()
    lasting = first & _connections_of_app()
    assert lasting
    docker("exec", live_stack.container("redis"), *redis_spec.RELOAD)
    load.go_on()
    # A caller that runs out of time closes its connection; ACL LOAD closes all of them.
    lasting &= _connections_of_app()
    assert lasting
    groundwork("redis-cli", "--stack", STACK, "ACL", "LOAD")
    assert lasting.isdisjoint(_connections_of_app())
    # They reconnect with the current files: the rotated password and CA.
    wait_until(lambda: load.go_on().cache_errors == 0, 180)


def _connections_of_app() -> set[int]:
    """Return the ids of the connections of user app in Redis."""
    listed = groundwork("redis-cli", "--stack", STACK, "CLIENT", "LIST")
    clients = [
        dict(word.partition("=")[::2] for word in line.split()) for line in listed.splitlines() if line
    ]
    return {int(c["id"]) for c in clients if c.get("user") == "app"}


def _wait_for_errors(load: Load, before: Any, words: str) -> None:
    wait_until(lambda: any(words in error for error in load.look().since(before).errors), 180)


def _as_rotator(container: str, command: str) -> None:
    script = (
        f"cd {redis_spec.CONFIG_DIR}; {{ printf 'AUTH rotator '; cat rotator.password; echo; echo '{command}'; }}"
        f" | redis-cli -h localhost -p {redis_spec.PORT} --tls --cacert ca.crt"
    )
    assert docker("exec", container, "sh", "-c", script).split() == ["OK", "OK"]


@promise("no secret leaves the program, Docker's inspection or the state in clear")
def test_no_secret_of_a_rotation_is_in_docker_inspect_or_in_clear_in_the_state(
    live_stack: LiveStack,
) -> None:
    secrets = [str(urlsplit(url).password) for urls in all_urls().values() for url in urls.values()]
    assert len(secrets) == 7
    state = PulumiStack(Checkout.here(), STACK).state_file.read_text()
    assert not [secret for secret in secrets if secret in state]
    for service in SERVICES:
        shown = json.dumps(inspect("container", live_stack.container(service)))
        logs = subprocess.run(
            ["docker", "logs", live_stack.container(service)], capture_output=True, text=True, check=True
        )
        for secret in secrets:
            assert secret not in shown + logs.stdout + logs.stderr

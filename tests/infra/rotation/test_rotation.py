"""Rotations of a live stack under the load of eight callers. No caller sees an error, even after a kill.

The callers run during the whole module. Each test checks what they saw meanwhile. Negative controls show that naive
ways cause errors.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import psycopg
import pytest
import redis
from click.testing import CliRunner

from infra import outputs
from infra.docker.engine import docker, inspect, psql
from infra.docker.health_check import health
from infra.spec import redis as redis_spec
from infra.spec.checkout import Checkout
from infra.spec.monitoring import POSTGRES_EXPORTER, REDIS_EXPORTER
from infra.spec.roles import scram_verifier
from infra.spec.rotation import ROLES
from ops.commands.rotate import rotate
from ops.errors import Exit
from ops.rotation.subject import RotatedStack
from ops.stack.pulumi_stack import PulumiStack
from tests.containers import wait_until
from tests.infra.conftest import STACK, LiveStack, groundwork, groundwork_process
from tests.infra.killing import run_until_killed
from tests.infra.rotation.load import Load, load_on
from tests.infra.rotation.logins import all_urls, gets_in, login_of, urls_of_app
from tests.infra.rotation.watching import assert_hidden, processes_watched
from tests.promises import promise
from tests.scale import IS_FULL

SERVICES = ("postgres", "redis", "access")
EXPORTERS = (POSTGRES_EXPORTER, REDIS_EXPORTER)


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


@pytest.mark.skipif(not IS_FULL, reason="the renewal of the authority installs new certificates too")
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
    old, before = ca_file.read_text(), _served(live_stack)
    done = _rotate("certificates", "--authority", "--grace", "10")
    assert len(done["certificates"]) == 3
    assert ca_file.read_text().count("BEGIN CERTIFICATE") == 1
    assert ca_file.read_text() != old
    after = _served(live_stack)
    assert all(before[server] != after[server] for server in before)
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


@dataclass(frozen=True)
class Story:
    """The URLs of every role and the containers of the exporters before the rotation of every password."""

    old: dict[str, dict[str, str]]
    exporters: dict[str, float]

    @property
    def old_login(self) -> str:
        return login_of(self.old["app"])


@pytest.fixture(scope="module")
def story(live_stack: LiveStack) -> Story:
    return Story(all_urls(), _exporters())


ROTATE_ALL = ("rotate", "passwords", "--all", "--stack", STACK, "--yes")


@promise("callers see no error while passwords are rotated")
@promise("a killed rotation resumes at its step, and locks nobody out")
@promise("a rotation under way is shown by `preview` and `rotate status`")
def test_killed_rotation_of_every_password_is_resumed_under_load(story: Story, unharmed: Load) -> None:
    """Kill the rotation in its second step, and resume it. No process shows a password."""
    with processes_watched() as shown:
        run_until_killed((*ROTATE_ALL, "--keep-old"), says="step 2 of 3", then="access-files updating")
        assert gets_in(urls_of_app()) == BOTH
        assert _rotate("passwords", "--all", "--keep-old")["oldPasswords"] == "accepted"
    new = all_urls()
    assert (gets_in(story.old["app"]), gets_in(new["app"])) == (BOTH, BOTH)
    # Pools and the access service switch automatically. A grace period in seconds would fit only one machine.
    wait_until(lambda: _sessions(story.old_login) == 0, 120)
    code, report = _status()
    assert code == Exit.PENDING
    assert any("app: the new one is in use" in line for line in report["due"])
    # Role monitor's clients read a password only when they start, so their containers were replaced, and log in.
    assert not set(story.exporters) & set(_exporters())
    for metric in ("pg_up", "redis_up"):
        wait_until(lambda metric=metric: _is_up(metric, since=story.exporters), 120)  # type: ignore[misc]
    assert_hidden(new, shown)


@promise("a rotation under way is shown by `preview` and `rotate status`")
@promise("drift of a stack is detected and named")
def test_drift_during_a_rotation_is_reported_as_exactly_the_removed_container_and_the_changed_role(
    live_stack: LiveStack, story: Story, unharmed: Load
) -> None:
    """Neither the rotation under way nor the renewal of the authority before it is drift."""
    docker("rm", "--force", live_stack.container("redis-exporter"))
    psql(
        live_stack.container("postgres"),
        "SET ROLE readonly_a; ALTER ROLE readonly_a IN DATABASE groundwork SET work_mem = '1MB'",
    )
    done = groundwork_process("preview", "--stack", STACK, "--expect-no-changes", "--refresh")
    assert done.returncode == Exit.MISMATCH, done.stdout + done.stderr
    assert "differs from the program (see above)" in done.stderr
    assert "rotation in progress: app is moved" in done.stdout
    line = re.compile(r" +(?:\+|~|-|\+-|-\+|\+\+|--) +\S+:\S+ (\S+) (?!refresh)")
    changed = {found[1] for each in done.stdout.splitlines() if (found := line.match(each))}
    assert {"redis-exporter", "roles"} <= changed, done.stdout
    assert {name for name in changed if not name.startswith("redis-exporter")} == {"roles"}, done.stdout


@promise("callers see no error while passwords are rotated")
@promise("a killed rotation resumes at its step, and locks nobody out")
@promise("an `up` after rotations changes nothing")
def test_last_step_revokes_every_old_password_and_repairs_drift(
    live_stack: LiveStack, story: Story, unharmed: Load
) -> None:
    """With SCALE=full the step is killed once. The drift is the one of the previous test."""
    before, said = unharmed.look(), ""
    with (
        processes_watched() as shown,
        psycopg.connect(story.old["app"]["DATABASE_URL"], autocommit=True) as late,
    ):
        if IS_FULL:
            said = run_until_killed((*ROTATE_ALL, "--grace", "0"), says="step 3 of 3", then="roles updating")
            assert gets_in(urls_of_app()) == BOTH
        last = groundwork_process(*ROTATE_ALL, "--grace", "0", "--json")
        assert last.returncode == Exit.FINE, last.stderr
        assert f"sessions of the old logins: {story.old_login} has 1;" in said + last.stderr
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            late.execute("SELECT 1")
    done, new = json.loads(last.stdout), all_urls()
    assert set(done["roles"]) == set(ROLES)
    assert {role["phase"] for role in done["roles"].values()} == {"at rest"}
    assert done["oldPasswords"] == "void"
    login = done["roles"]["app"]["login"]
    assert {story.old_login, login} == {"app_a", "app_b"}
    assert login_of(new["app"]) == login
    for role in new:
        assert not any(gets_in(story.old[role]).values()), role
        assert all(gets_in(new[role]).values()), role
    assert_hidden(new, shown)
    unharmed.go_on()
    assert unharmed.look().since(before).logins[login] > 0
    code, report = _status()
    assert (code, report["due"], report["mismatches"]) == (Exit.FINE, [], [])
    assert report["passwords"]["app"]["ageDays"] == 0
    assert report["certificates"]["redis"]["isServed"] is True
    assert health(live_stack.inspect("redis-exporter")) == "healthy"
    left = psql(
        live_stack.container("postgres"), "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0"
    )
    assert left.strip() == "0"
    groundwork("preview", "--stack", STACK, "--expect-no-changes", "--refresh")


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
    done = CliRunner().invoke(rotate, ["status", "--stack", STACK, "--json"])
    return done.exit_code, json.loads(done.stdout)


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
    with redis.Redis.from_url(all_urls()["ops"]["REDIS_URL"], driver_info=None) as ops:
        first = _connections_of_app(ops)
        # A caller that logs in again has another connection by then.
        load.go_on()
        lasting = first & _connections_of_app(ops)
        assert lasting
        docker("exec", live_stack.container("redis"), *redis_spec.RELOAD)
        load.go_on()
        # A caller that runs out of time closes its connection; ACL LOAD closes all of them.
        lasting &= _connections_of_app(ops)
        assert lasting
        ops.acl_load()
        # It closed this connection too.
        ops.connection_pool.disconnect()
        assert lasting.isdisjoint(_connections_of_app(ops))
    # They reconnect with the current files: the rotated password and CA.
    wait_until(lambda: load.go_on().cache_errors == 0, 180)


def _connections_of_app(ops: redis.Redis) -> set[int]:
    """Return the ids of the connections of user app in Redis."""
    clients: Any = ops.client_list()
    return {int(client["id"]) for client in clients if client.get("user") == "app"}


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

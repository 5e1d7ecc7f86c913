"""The program at each step of a rotation: accepted logins, used logins, and unchanged containers."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import pytest

from infra import outputs
from infra.spec.roles import LOGINS
from infra.spec.rotation import AUTHORITY, CERTIFICATES, REDIS_SERVER_ROLES, ROLES, Rotation
from tests.promises import promise
from tests.unit.infra.conftest import Run
from tests.unit.infra.program import CANARY, CONTAINER, Program, all_texts, plain_texts

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
# Number of steps of a first rotation -> the generation in use, and the accepted ones.
STEPS = {0: (1, {1}), 1: (1, {1, 2}), 2: (2, {1, 2}), 3: (2, {2})}


def rotated(steps: int, *names: str) -> Rotation:
    rotation = Rotation()
    for _ in range(steps):
        rotation = rotation.step(names or (*ROLES, AUTHORITY), NOW)
    return rotation


@pytest.fixture(scope="module")
def programs(run: Run) -> dict[int, Program]:
    """The program, by the number of steps that every role and the authority have taken."""
    return {steps: run(rotation=rotated(steps)) for steps in STEPS}


@pytest.fixture(params=STEPS)
def steps(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def _inputs(program: Program, name: str) -> dict[str, Any]:
    (resource,) = (r for r in program.resources if r.name == name)
    return resource.inputs


def _secret(value: Any) -> Any:
    return value["value"]


def _login(role: str, generation: int) -> str:
    return LOGINS[role][(generation - 1) % len(LOGINS[role])].name


@promise("no container is replaced by a rotation")
def test_no_step_changes_a_container(programs: dict[int, Program], steps: int) -> None:
    containers = {name: r.inputs for name, r in programs[steps].of_type(CONTAINER).items()}
    assert containers == {name: r.inputs for name, r in programs[0].of_type(CONTAINER).items()}


@promise("no container is replaced by a rotation", control=True)
def test_a_changed_configuration_does_change_a_container(run: Run, programs: dict[int, Program]) -> None:
    """Negative control of the test above."""
    changed = run(redisMaxclients="77").of_type(CONTAINER)["redis"]
    assert changed.inputs != programs[0].of_type(CONTAINER)["redis"].inputs


def test_only_logins_of_accepted_generations_can_log_in(programs: dict[int, Program], steps: int) -> None:
    in_use, accepted = STEPS[steps]
    expected = {
        _login(role, generation)
        for role, logins in LOGINS.items()
        for generation in (accepted if len(logins) > 1 else {in_use})
    }
    assert set(_secret(_inputs(programs[steps], "roles")["verifiers"])) == expected


@pytest.mark.parametrize("role", outputs.ROLES)
def test_outputs_contain_the_generation_in_use(programs: dict[int, Program], steps: int, role: str) -> None:
    in_use, _ = STEPS[steps]
    login, user = outputs.ROLES[role]
    suffix = "" if in_use == 1 else f"-{in_use}"
    if login:
        url = programs[steps].exports[outputs.DATABASE_URLS][0][role]
        name = _login(login, in_use)
        assert url.startswith(f"postgresql://{name}:{CANARY}-postgres-{name}{suffix}-value@")
    if user:
        url = programs[steps].exports[outputs.REDIS_URLS][0][role]
        assert url.startswith(f"rediss://{user}:{CANARY}-redis-{user}{suffix}-value@")


def test_the_access_service_uses_the_logins_of_the_outputs(programs: dict[int, Program], steps: int) -> None:
    files = _secret(_inputs(programs[steps], "access-files")["files"])
    for output, file in ((outputs.DATABASE_URLS, "database_url"), (outputs.REDIS_URLS, "redis_url")):
        url = programs[steps].exports[output][0]["app"]
        assert files[file].partition("@")[0] == url.partition("@")[0]


def test_redis_accepts_the_passwords_of_the_accepted_generations(
    programs: dict[int, Program], steps: int
) -> None:
    _, accepted = STEPS[steps]
    aclfile = _secret(_inputs(programs[steps], "redis-files")["files"])["users.acl"]
    (line,) = (line for line in aclfile.splitlines() if line.startswith("user app "))
    names = [f"{CANARY}-redis-app{'' if n == 1 else f'-{n}'}-value" for n in sorted(accepted)]
    digests = [f"#{hashlib.sha256(name.encode()).hexdigest()}" for name in names]
    assert [word for word in line.split() if word.startswith("#")] == digests


@pytest.fixture(scope="module")
def replicated(run: Run) -> dict[int, Program]:
    """The program with replicas of Redis, by the number of steps that the servers' users have taken."""
    return {steps: run(redisReplicas="2", rotation=rotated(steps, *REDIS_SERVER_ROLES)) for steps in STEPS}


def test_redis_servers_and_sentinels_use_one_password_and_accept_all(
    replicated: dict[int, Program], steps: int
) -> None:
    in_use, accepted = STEPS[steps]
    used, lines = {}, {}
    for member in ("redis", "redis-2", "sentinel-1"):
        files = _secret(_inputs(replicated[steps], f"{member}-files")["files"])
        for line in "".join(
            files.get(name, "") for name in ("replication.conf", "sentinel.conf")
        ).splitlines():
            directive, _, password = line.rpartition(" ")
            if directive in ("masterauth", "sentinel auth-pass groundwork", "sentinel sentinel-pass"):
                used.setdefault(directive, set()).add(password)
        for line in files["users.acl"].splitlines():
            lines.setdefault(line.split()[1], set()).add(line)
    for user, directive in zip(
        ("replica", "sentinel", "peer"),
        ("masterauth", "sentinel auth-pass groundwork", "sentinel sentinel-pass"),
        strict=True,
    ):
        names = {n: f"{CANARY}-redis-{user}{'' if n == 1 else f'-{n}'}-value" for n in (1, 2)}
        assert used[directive] == {names[in_use]}, user
        (line,) = lines[user]
        for number, name in names.items():
            assert (hashlib.sha256(name.encode()).hexdigest() in line) is (number in accepted), user


@promise("no server is replaced by a rotation of the passwords among Redis servers")
def test_a_rotation_among_redis_servers_replaces_only_sentinels(
    replicated: dict[int, Program], steps: int
) -> None:
    before, after = (replicated[n].of_type(CONTAINER) for n in (0, steps))
    changed = {name for name, each in after.items() if each.inputs != before[name].inputs}
    # At step 0 nothing has changed.
    assert changed == ({"sentinel-1", "sentinel-2", "sentinel-3"} if steps else set())
    digests = [_inputs(replicated[n], "redis-2-reload")["digest"] for n in (0, steps)]
    assert len(set(digests)) == (2 if steps else 1)


def test_clients_trust_every_accepted_authority_and_the_one_in_use_signs(
    programs: dict[int, Program], steps: int
) -> None:
    in_use, accepted = STEPS[steps]
    names = {number: "authority" if number == 1 else f"authority-{number}" for number in (1, 2)}
    bundle = "".join(f"certificate of {names[number]}" for number in sorted(accepted))
    program = programs[steps]
    assert program.exports[outputs.CA_CERTIFICATE][0] == bundle
    assert _inputs(program, "ca-file")["content"] == bundle
    for server in ("postgres", "redis"):
        signed_by = _inputs(program, f"{server}-certificate")["ca_certificate"]
        assert signed_by == f"certificate of {names[in_use]}"
        assert _secret(_inputs(program, f"{server}-files")["files"])["ca.crt"] == bundle


def test_every_secret_is_wrapped_at_every_step(programs: dict[int, Program], steps: int) -> None:
    for resource in programs[steps].resources:
        plain = [text for text in plain_texts(resource.inputs) if CANARY in text]
        assert not plain, f"{resource.urn} hands over a secret in the open"
    assert any(CANARY in text for r in programs[steps].resources for text in all_texts(r.inputs))


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_server_reloads_its_files_when_they_change(programs: dict[int, Program], server: str) -> None:
    digests = [_inputs(programs[steps], f"{server}-reload")["digest"] for steps in (0, 1, 3)]
    assert len(set(digests)) == 3
    assert all(CANARY not in digest for digest in digests)


def test_certificates_are_renewed_with_a_new_generation(run: Run, programs: dict[int, Program]) -> None:
    renewed = run(rotation=Rotation().renew(CERTIFICATES, NOW))
    for server in ("postgres", "redis"):
        name = f"{server}-certificate"
        assert _inputs(renewed, name)["generation"] == 2
        assert _inputs(programs[0], name)["generation"] == 1


def test_the_program_exports_the_rotation_that_it_applied(programs: dict[int, Program], steps: int) -> None:
    value, is_secret = programs[steps].exports[outputs.ROTATION]
    assert Rotation.from_json(value, "the outputs") == rotated(steps)
    assert not is_secret

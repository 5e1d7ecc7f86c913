"""The setting `redisReplicas`: what it accepts, and the resources of a Redis with replicas."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from infra import outputs
from infra.settings import StackSettings
from infra.spec import redis_replication as replication
from infra.spec.errors import SettingError
from infra.spec.redis_acl import REPLICATED_USERS
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.conftest import Run
from tests.unit.infra.program import CANARY, CONTAINER, REPLICATED_LEASES, Program, Resource, all_texts

SERVERS = {"redis": "10.201.7.40", "redis-2": "10.201.7.41", "redis-3": "10.201.7.42"}
SENTINELS = {"sentinel-1": "10.201.7.50", "sentinel-2": "10.201.7.51", "sentinel-3": "10.201.7.52"}


def named(program: Program, name: str) -> Resource:
    (found,) = (resource for resource in program.resources if resource.name == name)
    return found


@promise("`redisReplicas` accepts what works, and refuses everything else with one line")
def test_what_does_not_work_is_refused() -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"redisReplicas": 1}, "redisReplicas", "1 is not supported"),
        ({"redisReplicas": 3}, "redisReplicas", "3 is not supported"),
        ({"redisReplicas": -2}, "redisReplicas", "-2 is not supported"),
        ({"redisReplicas": 2, "networkSubnet": "10.201.7.0/27"}, "networkSubnet", "too small"),
        (
            {"redisReplicas": 2, "monitoringTargets": {"sentinel": "s-1:80"}},
            "monitoringTargets",
            "is reserved",
        ),
    ]
    for settings, key, reason in cases:
        with in_case(settings, key, reason):
            with pytest.raises(SettingError, match=reason) as caught:
                StackSettings.parse(settings)
            assert f"groundwork:{key}" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_the_smallest_subnet_contains_every_address() -> None:
    settings = StackSettings.parse({"redisReplicas": 2, "networkSubnet": "10.201.7.64/26"})
    assert settings.redis_replicas == 2
    # The network's own addresses are the first two and the last two.
    assert (
        replication.FIRST_SENTINEL_ADDRESS + replication.SENTINELS
        < 2 ** (32 - replication.LONGEST_PREFIX) - 2
    )


def test_servers_and_sentinels_have_fixed_addresses_in_their_certificates(replicated: Program) -> None:
    for service, address in (SERVERS | SENTINELS).items():
        container = replicated.of_type(CONTAINER)[service]
        (network,) = container.inputs["networksAdvanced"]
        assert network["ipv4Address"] == address
        assert address in named(replicated, f"{service}-certificate").inputs["names"]


def test_servers_are_published_on_the_loopback_address_and_sentinels_nowhere(replicated: Program) -> None:
    containers = replicated.of_type(CONTAINER)
    ports = [p for service in SERVERS for p in containers[service].inputs["ports"]]
    assert [(p["ip"], p["external"]) for p in ports] == [
        ("127.0.0.1", port) for port in REPLICATED_LEASES.redis_servers
    ]
    assert not any(containers[service].inputs.get("ports") for service in SENTINELS)


def test_the_first_server_is_the_first_primary(replicated: Program) -> None:
    starts = {s: replicated.of_type(CONTAINER)[s].inputs["entrypoints"] for s in (*SERVERS, *SENTINELS)}
    assert all(start[:2] == ["tini", "--"] for start in starts.values())
    # It converts the data of another persistence mode.
    assert all('exec groundwork-redis "$file"' in starts[s][4] for s in SERVERS)
    assert starts["redis"][-1] == ""
    assert {starts[s][-1] for s in ("redis-2", "redis-3")} == {f"replicaof {SERVERS['redis']} 6379"}
    assert {starts[s][-1] for s in SENTINELS} == {SERVERS["redis"]}


@promise("never do two Redis servers accept writes at the same time")
def test_a_replica_is_promoted_only_after_an_isolated_primary_refuses_writes(replicated: Program) -> None:
    texts = [text for name in SENTINELS for text in all_texts(named(replicated, f"{name}-files").inputs)]
    down = {float(n) / 1000 for text in texts for n in re.findall(r"down-after-milliseconds \w+ (\d+)", text)}
    lag = int(replication.FENCE["min-replicas-max-lag"])
    # In hundredths of a second: Redis notes in which whole second a replica answered last, and checks once a second.
    longest = max(
        next(now for now in range(check, 1000, 100) if now // 100 - answer // 100 > lag) - answer
        for answer in range(100)
        for check in range(answer, answer + 100)
    )
    assert 3 < longest / 100 <= min(down)


def test_the_urls_list_every_server(replicated: Program) -> None:
    urls, _ = replicated.exports[outputs.REDIS_URLS]
    listed = ",".join(f"localhost:{port}" for port in REPLICATED_LEASES.redis_servers)
    assert all(f"@{listed}/0?" in url for url in urls.values())
    (url,) = (text for text in all_texts(named(replicated, "access-files").inputs) if "rediss://" in text)
    assert f"@{','.join(f'{address}:6379' for address in SERVERS.values())}/0?" in url
    servers, _ = replicated.exports[outputs.REDIS_SERVERS]
    assert [server["port"] for server in servers] == REPLICATED_LEASES.redis_servers


def test_each_user_has_a_password_of_its_own(replicated: Program) -> None:
    (acl,) = (t for t in all_texts(named(replicated, "redis-2-files").inputs) if "user default off" in t)
    users = {line.split()[1]: line.split()[3] for line in acl.splitlines() if " on " in line}
    assert set(users) == {user.name for user in REPLICATED_USERS}
    assert len(set(users.values())) == len(users)
    texts = list(all_texts(named(replicated, "sentinel-2-files").inputs))
    for user in ("sentinel", "peer", "monitor"):
        assert any(f"{CANARY}-redis-{user}-value" in text for text in texts), user


def test_without_replicas_there_is_one_server(program: Program) -> None:
    assert not {*SERVERS, *SENTINELS} - {"redis"} & set(program.of_type(CONTAINER))
    assert outputs.REDIS_SERVERS not in program.exports
    assert set(program.exports[outputs.CONTAINERS][0]) == {"postgres", "redis", "access", "network"}


def test_a_network_that_is_too_small_is_refused_in_one_line(run: Run) -> None:
    """It may be of an earlier `networkSubnet`."""
    leases = replace(REPLICATED_LEASES, subnet="10.201.7.0/28")
    with pytest.raises(SettingError, match=r"10\.201\.7\.0/28 is too small"):
        run(redisReplicas="2", leases=leases)


def test_protect_data_protects_only_the_volume_that_stays_without_replicas(run: Run) -> None:
    program = run(redisReplicas="2", protectData="true")
    protected = {resource.name for resource in program.resources if resource.protect}
    assert protected == {"redis-data", "postgres-data", "postgres-backups"}


def test_what_replicas_lag_behind_fits_into_the_memory(run: Run) -> None:
    program = run(redisReplicas="2", redisMemory="256MB", redisMaxmemory="160MB")
    (text,) = (t for t in all_texts(named(program, "redis-3-files").inputs) if "replica-announce-ip" in t)
    assert f"client-output-buffer-limit replica {48 * 1024**2} {24 * 1024**2} 60\n" in text

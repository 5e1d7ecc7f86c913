"""The Docker program with replicas of Postgres: identities that keep the data, addresses, certificates and order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from infra import outputs
from infra.docker.members import ClusterState
from infra.spec import etcd, postgres_cluster
from infra.spec.rotation import AUTHORITY, Rotation
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.conftest import Run
from tests.unit.infra.program import CONTAINER, VOLUME, Program

CERTIFICATE = "pulumi-python:dynamic:Resource"
MEMBERS, STORES = postgres_cluster.MEMBERS, etcd.MEMBERS


def _files(program: Program, service: str) -> dict[str, Any]:
    resource = next(r for r in program.resources if r.name == f"{service}-files")
    files: dict[str, Any] = resource.inputs["files"]["value"]
    return files


def _patroni(program: Program, member: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_files(program, member)["patroni.yml"])
    return found


@promise("turning replicas on keeps the data")
def test_the_first_member_has_the_identities_of_a_single_server(program: Program, clustered: Program) -> None:
    # Pulumi deletes a volume whose URN is not declared any more.
    kept = ("postgres-data", "postgres-backups", "postgres-config", "backup-cipher", "postgres-certificate")
    for resource in (r for r in program.resources if r.name in (*kept, "postgres")):
        same = [r for r in clustered.resources if r.urn == resource.urn]
        assert len(same) == 1, resource.urn
        assert same[0].inputs.get("name") == resource.inputs.get("name"), resource.urn


@promise("without replicas, no resource of a stack differs from a stack of before")
def test_without_replicas_nothing_belongs_to_a_cluster(program: Program) -> None:
    assert not [r.name for r in program.resources if "etcd" in r.name or "postgres-2" in r.name]
    container = program.of_type(CONTAINER)["postgres"]
    assert "ipv4Address" not in container.inputs["networksAdvanced"][0]
    certificate = next(r for r in program.resources if r.name == "postgres-certificate")
    assert "for_clients" not in certificate.inputs
    assert set(_files(program, "postgres")) == {
        *("postgresql.conf", "pg_hba.conf", "pgbackrest.conf", "server.crt", "server.key", "ca.crt")
    }
    assert outputs.POSTGRES_REPLICAS not in program.exports


def test_each_member_has_an_address_that_its_certificate_contains(clustered: Program) -> None:
    first = {"postgres": 20, "postgres-2": 21, "postgres-3": 22, "etcd-1": 30, "etcd-2": 31, "etcd-3": 32}
    for service, host in first.items():
        address = f"10.201.7.{host}"
        container = clustered.of_type(CONTAINER)[service]
        assert container.inputs["networksAdvanced"][0]["ipv4Address"] == address
        certificate = next(r for r in clustered.resources if r.name == f"{service}-certificate")
        names = certificate.inputs["names"]
        # The common name is what pg_ident.conf maps.
        assert names[0] == service
        assert {"localhost", "127.0.0.1", address} <= set(names)
        assert certificate.inputs["for_clients"] is True


def test_only_the_first_member_can_start_a_new_cluster(clustered: Program) -> None:
    # Another one with an empty volume would otherwise start an empty cluster, if etcd had lost its data.
    assert [member for member in MEMBERS if "bootstrap" in _patroni(clustered, member)] == ["postgres"]


def test_etcd_publishes_no_port_and_patroni_publishes_only_postgres(clustered: Program) -> None:
    containers = clustered.of_type(CONTAINER)
    assert not any(containers[store].inputs["ports"] for store in STORES)
    for member, port in zip(MEMBERS, (21001, 21007, 21008), strict=True):
        assert containers[member].inputs["ports"] == [{"external": port, "internal": 5432, "ip": "127.0.0.1"}]


@promise("members log in to each other and to etcd with certificates, and there is no password for it")
def test_no_configuration_of_a_cluster_contains_a_password(clustered: Program) -> None:
    for member in MEMBERS:
        assert "password" not in json.dumps(_patroni(clustered, member)).replace("password_encryption", "")
        assert _patroni(clustered, member)["restapi"]["verify_client"] == "required"
    for store in STORES:
        conf = json.loads(_files(clustered, store)["etcd.yml"])
        for kind in ("client-transport-security", "peer-transport-security"):
            assert conf[kind]["client-cert-auth"] is True


def test_a_write_is_acknowledged_only_when_a_replica_has_it(clustered: Program) -> None:
    dynamic = _patroni(clustered, "postgres")["bootstrap"]["dcs"]
    assert dynamic["synchronous_mode"] is True
    assert dynamic["synchronous_mode_strict"] is True
    assert "synchronous_commit" not in dynamic["postgresql"]["parameters"]
    # Otherwise no replica takes over that lacks 1 MB of an open transaction, and the stack has no primary.
    assert dynamic["maximum_lag_on_failover"] > 2**50
    # Patroni refuses smaller ones, and adjusts them if they do not fit.
    assert dynamic["loop_wait"] + 2 * dynamic["retry_timeout"] <= dynamic["ttl"] >= 20


def test_the_shared_settings_are_those_of_the_first_start(clustered: Program) -> None:
    settings = next(r for r in clustered.resources if r.name == "postgres-settings")
    bootstrap = _patroni(clustered, "postgres")["bootstrap"]["dcs"]
    assert json.loads(settings.inputs["configuration"]) == bootstrap


def test_a_changed_parameter_replaces_no_container_of_a_cluster(clustered: Program, run: Run) -> None:
    changed = run(postgresReplicas=2, postgresMaxConnections=150, postgresParameters='{"work_mem": "9MB"}')
    for member in MEMBERS:
        before, after = (stack.of_type(CONTAINER)[member] for stack in (clustered, changed))
        assert before.inputs["labels"] == after.inputs["labels"]
    settings = next(r for r in changed.resources if r.name == "postgres-settings")
    parameters = json.loads(settings.inputs["configuration"])["postgresql"]["parameters"]
    assert (parameters["max_connections"], parameters["work_mem"]) == ("150", "9MB")


@promise("a bad setting is refused in one line that names it, before anything is changed")
@pytest.mark.parametrize("replicas", [0, 2])
def test_no_file_of_a_server_is_changed_before_its_parameters_are_checked(run: Run, replicas: int) -> None:
    program = run(
        postgresReplicas=replicas, postgresMaxConnections=150, postgresParameters='{"work_mem": "9MB"}'
    )
    (checked,) = (r for r in program.resources if r.name == "postgres-parameters")
    assert "work_mem = '9MB'" in checked.inputs["configuration"]
    files = {f"{member}-files" for member in MEMBERS[: 1 + replicas]}
    assert {r.name for r in program.resources if checked.urn in r.depends_on} >= files


def test_groundworks_own_parameters_are_not_checked(run: Run) -> None:
    assert "postgres-parameters" not in {r.name for r in run().resources}


def _waits_for(program: Program, service: str) -> set[str]:
    """Return the members of the cluster whose health a container's start waits for."""
    healthy = {
        r.urn: r.name.removesuffix("-healthy") for r in program.resources if r.name.endswith("-healthy")
    }
    return {healthy[urn] for urn in program.of_type(CONTAINER)[service].depends_on if urn in healthy}


def test_servers_without_containers_start_together_because_any_may_have_been_the_primary(
    clustered: Program,
) -> None:
    # After `down`, a replica that was not synchronous cannot be promoted, and waits for the others.
    assert _waits_for(clustered, "etcd-2") == set()
    assert [_waits_for(clustered, member) for member in MEMBERS] == [set(STORES)] * 3


@promise("`up` changes one server of a cluster at a time, and the primary last")
def test_an_existing_cluster_changes_one_member_at_a_time_and_the_primary_last(run: Run) -> None:
    program = run(postgresReplicas=2, cluster=ClusterState(True, "postgres-2", has_stores=True))
    assert _waits_for(program, "etcd-3") == {"etcd-1", "etcd-2"}
    assert _waits_for(program, "postgres") == set(STORES)
    assert _waits_for(program, "postgres-3") == {*STORES, "postgres"}
    assert _waits_for(program, "postgres-2") == {*STORES, "postgres", "postgres-3"}


def test_new_members_of_etcd_start_together_because_one_alone_is_never_healthy(run: Run) -> None:
    # All of them were removed with their volumes, while the servers of Postgres run.
    program = run(postgresReplicas=2, cluster=ClusterState(True, "postgres", has_stores=False))
    assert [_waits_for(program, store) for store in STORES] == [set()] * 3
    assert _waits_for(program, "postgres") == {*STORES, "postgres-2", "postgres-3"}


@promise("clients of a cluster connect to the primary among its servers")
def test_a_database_url_lists_every_member_and_asks_for_the_primary(clustered: Program) -> None:
    for role in ("app", "readonly", "monitor", "migrator"):
        with in_case(role):
            url = clustered.exports[outputs.DATABASE_URLS][0][role]
            servers, _, query = url.rpartition("@")[2].partition("?")
            assert servers == "localhost:21001,localhost:21007,localhost:21008/groundwork"
            given = parse_qs(query)
            # Sessions of readonly and monitor are read-only, so that read-write would find no server for them.
            assert given["target_session_attrs"] == ["primary"]
            assert given["connect_timeout"] == ["2"]
            assert given["sslmode"] == ["verify-full"]


@promise("with replicas, the roles app and readonly have a URL that prefers them")
def test_a_read_url_lists_every_member_and_prefers_replicas(clustered: Program, program: Program) -> None:
    urls, is_secret = clustered.exports[outputs.DATABASE_READ_URLS]
    assert set(urls) == {"app", "readonly"}
    assert is_secret
    for role, url in urls.items():
        servers, _, query = url.partition("?")
        assert servers == clustered.exports[outputs.DATABASE_URLS][0][role].partition("?")[0]
        given = parse_qs(query)
        assert given["target_session_attrs"] == ["prefer-standby"]
        assert given["load_balance_hosts"] == ["random"]
        assert given["sslmode"] == ["verify-full"]
    assert outputs.DATABASE_READ_URLS not in program.exports


def test_the_access_service_uses_addresses_because_names_of_dead_containers_take_long(
    clustered: Program,
) -> None:
    url = _files(clustered, "access")["database_url"]
    assert "@10.201.7.20:5432,10.201.7.21:5432,10.201.7.22:5432/" in url


def test_the_replicas_are_in_the_outputs(clustered: Program) -> None:
    assert clustered.exports[outputs.POSTGRES_REPLICAS] == (
        [{"host": "localhost", "port": 21007}, {"host": "localhost", "port": 21008}],
        False,
    )
    assert {*MEMBERS, *STORES} <= set(clustered.exports[outputs.CONTAINERS][0])


def test_only_the_first_members_volume_is_protected_because_the_others_are_copies(run: Run) -> None:
    volumes = run(postgresReplicas=2, protectData="true").of_type(VOLUME)
    protected = {name for name, volume in volumes.items() if volume.protect}
    assert protected == {"postgres-data", "postgres-backups", "redis-data"}


def test_patroni_reads_the_authorities_again_at_each_step_of_their_rotation(run: Run) -> None:
    names, digests = [], []
    rotation = Rotation()
    for _ in range(4):
        program = run(postgresReplicas=2, rotation=rotation)
        (name,) = (file for file in _files(program, "postgres-2") if file.startswith("authorities-"))
        assert _patroni(program, "postgres-2")["restapi"]["cafile"] == f"/etc/groundwork/{name}"
        names.append(name)
        digests.append(program.of_type(CONTAINER)["postgres-2"].inputs["labels"])
        rotation = rotation.step([AUTHORITY], datetime(2026, 11, 30, tzinfo=UTC))
    assert names == ["authorities-1.crt", "authorities-1-2.crt", "authorities-1-2.crt", "authorities-2.crt"]
    # Without a restart of the container. The second step gives it a new certificate, which it reads automatically.
    assert all(labels == digests[0] for labels in digests)


def test_etcd_replaces_its_leader_before_patroni_gives_up() -> None:
    conf = json.loads(etcd.render_conf("etcd-1", {"etcd-1": "10.201.7.30"}))
    # etcd refuses a smaller ratio.
    assert conf["election-timeout"] >= 5 * conf["heartbeat-interval"]
    # The timeout is random, between one and two times the setting.
    assert 2 * conf["election-timeout"] < postgres_cluster.RETRY_SECONDS * 1000


def test_etcd_serves_metrics_in_the_data_network_and_nothing_else_without_a_certificate() -> None:
    conf = json.loads(etcd.render_conf("etcd-1", {"etcd-1": "10.201.7.30"}))
    assert conf["listen-metrics-urls"] == "http://127.0.0.1:2381,http://10.201.7.30:2381"
    for key in ("listen-peer-urls", "listen-client-urls"):
        assert conf[key].startswith("https://10.201.7.30:"), key


def test_a_large_server_gets_time_to_write_its_memory_to_the_disk(run: Run) -> None:
    replicas = {"postgresReplicas": "2", "redisReplicas": "2"}
    for more in ({}, replicas):
        small = run(redisMemory="1535MB", postgresMemory="1GB", **more).of_type(CONTAINER)
        assert {each.inputs["stopTimeout"] for each in small.values()} == {30}
        large = run(redisMemory="4GB", postgresMemory="64GB", accessMemory="8GB", **more).of_type(CONTAINER)
        for name, container in large.items():
            wanted = {"postgres": 600, "redis": 81}.get(name.partition("-")[0], 30)
            assert container.inputs["stopTimeout"] == wanted, name
            assert container.inputs["destroyGraceSeconds"] == wanted, name

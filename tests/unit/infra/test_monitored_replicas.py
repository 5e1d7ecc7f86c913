"""The monitoring of a stack with replicas: a target for each server, and nothing of it without replicas."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from infra.monitoring import configuration, replicas
from infra.spec import etcd, postgres_cluster, redis_replication
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.conftest import Run
from tests.unit.infra.program import CANARY, CONTAINER, Program, all_texts

MEMBERS = {"postgres": "10.201.7.20", "postgres-2": "10.201.7.21", "postgres-3": "10.201.7.22"}
STORES = {"etcd-1": "10.201.7.30", "etcd-2": "10.201.7.31", "etcd-3": "10.201.7.32"}
SERVERS = {"redis": "10.201.7.40", "redis-2": "10.201.7.41", "redis-3": "10.201.7.42"}
SENTINELS = {"sentinel-1": "10.201.7.50", "sentinel-2": "10.201.7.51", "sentinel-3": "10.201.7.52"}
OWN_RULES = {"rules-postgres-replicas.yml", "rules-redis-replicas.yml"}


@pytest.fixture(scope="module")
def monitored_replicas(run: Run) -> Program:
    return run(monitoring="true", postgresReplicas=2, redisReplicas="2")


def files_of(program: Program, service: str) -> dict[str, Any]:
    resource = next(r for r in program.resources if r.name == f"{service}-files")
    found: dict[str, Any] = resource.inputs["files"]["value"]
    return found


def jobs_of(program: Program) -> dict[str, dict[str, Any]]:
    (text,) = (text for text in all_texts(files_of(program, "prometheus")) if "scrape_configs" in text)
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def targets_of(job: dict[str, Any]) -> dict[str, str]:
    """Return the URL of each target by the name that Prometheus gives it."""
    return {
        each["labels"]["instance"]: each["targets"][0] + each["labels"].get("__metrics_path__", "/metrics")
        for each in job["static_configs"]
    }


@promise("with replicas, each server is monitored under its own name")
def test_each_server_is_a_target_with_its_own_name(monitored_replicas: Program) -> None:
    jobs = jobs_of(monitored_replicas)
    assert targets_of(jobs["postgres"]) == {
        member: f"postgres-exporter:{9187 + n}/metrics" for n, member in enumerate(postgres_cluster.MEMBERS)
    }
    assert targets_of(jobs["etcd"]) == {
        store: f"{address}:{etcd.HEALTH_PORT}/metrics" for store, address in STORES.items()
    }
    for job, servers in (("redis", SERVERS), ("sentinel", SENTINELS)):
        assert targets_of(jobs[job]) == {each: f"redis-exporter:9121/metrics/{each}" for each in servers}
    # The jobs that do not depend on replicas are unchanged.
    assert jobs["access"]["static_configs"] == [{"targets": ["access:8080"]}]


def test_an_exporter_listens_where_prometheus_asks_for_its_server(monitored_replicas: Program) -> None:
    words = monitored_replicas.of_type(CONTAINER)["postgres-exporter"].inputs["command"]
    pairs = words[words.index("--") + 1 :]
    listening = dict(zip(pairs[::2], pairs[1::2], strict=True))
    asked = targets_of(jobs_of(monitored_replicas)["postgres"])
    for member, address in MEMBERS.items():
        port = asked[member].partition(":")[2].partition("/")[0]
        assert listening[f":{port}"].startswith(f"{address}:5432/groundwork?sslmode=verify-full&")


def test_the_filter_before_redis_exporter_forwards_a_fixed_address_for_each_path(
    monitored_replicas: Program,
) -> None:
    files = files_of(monitored_replicas, "redis-exporter")
    lines = dict(line.split(" ") for line in files[replicas.PATHS_FILE].splitlines())
    assert lines.pop("/health") == "/health"
    assert lines == {
        **{f"/metrics/{each}": f"/scrape?target=rediss://{at}:6379" for each, at in SERVERS.items()},
        **{f"/metrics/{each}": f"/scrape?target=rediss://{at}:26379" for each, at in SENTINELS.items()},
    }
    container = monitored_replicas.of_type(CONTAINER)["redis-exporter"]
    assert f"PATHS={configuration.CONFIG_DIR}/{replicas.PATHS_FILE}" in container.inputs["envs"]
    # Otherwise the exporter would use its default, a Redis on its own address.
    assert "-redis.addr=" in container.inputs["command"]


def test_the_exporters_have_a_password_for_each_server_in_a_file(monitored_replicas: Program) -> None:
    (text,) = (t for t in all_texts(files_of(monitored_replicas, "redis-exporter")) if CANARY in t)
    for address in (*SERVERS.values(), *SENTINELS.values()):
        assert f"rediss://{address}:" in text
    for service in ("postgres-exporter", "redis-exporter"):
        assert not any(CANARY in t for t in all_texts(monitored_replicas.of_type(CONTAINER)[service].inputs))


@promise("without replicas, monitoring is the same as before")
def test_a_stack_has_only_the_jobs_and_rules_of_its_own_replicas(run: Run) -> None:
    cases: list[tuple[str, dict[str, Any], set[str], set[str]]] = [
        ("none", {}, set(), set()),
        ("postgres", {"postgresReplicas": 2}, {"rules-postgres-replicas.yml"}, {"etcd"}),
        ("redis", {"redisReplicas": "2"}, {"rules-redis-replicas.yml"}, {"sentinel"}),
    ]
    for name, settings, rules, jobs in cases:
        with in_case(name):
            program = run(monitoring="true", **settings)
            assert OWN_RULES & files_of(program, "prometheus").keys() == rules
            assert jobs_of(program).keys() == {"postgres", "redis", "access", "prometheus"} | jobs
            exporter = program.of_type(CONTAINER)["redis-exporter"].inputs
            assert ("-redis.addr=rediss://redis:6379" in exporter["command"]) == (
                "redisReplicas" not in settings
            )
            queries = files_of(program, "postgres-exporter")["queries.yml"]
            same = queries == configuration.POSTGRES_QUERIES.read_text()
            assert same == ("postgresReplicas" not in settings)


def test_only_the_primary_reports_archiving_and_backups() -> None:
    base = yaml.safe_load(configuration.POSTGRES_QUERIES.read_text())
    queries = yaml.safe_load(replicas.postgres_queries())
    for name, entry in base.items():
        asks_primary = queries[name]["query"].endswith("WHERE NOT pg_is_in_recovery()")
        assert asks_primary == (name in ("pg_archiving", "pg_backup")), name
        assert queries[name]["metrics"] == entry["metrics"], name


def test_rules_count_the_servers_that_a_stack_has() -> None:
    """The numbers in the rules are those of the specification."""
    expressions = {
        rule["alert"]: rule["expr"]
        for path in replicas.REPLICA_RULES.glob("*.yml")
        for rule in yaml.safe_load(path.read_text())["groups"][0]["rules"]
    }
    for alert, fewest in (
        ("ReplicaMissing", postgres_cluster.REPLICAS),
        ("RedisReplicaMissing", redis_replication.REPLICAS),
        ("EtcdQuorumLost", len(etcd.MEMBERS) // 2 + 1),
        ("SentinelQuorumLost", redis_replication.SENTINELS // 2 + 1),
    ):
        assert re.search(r"< (\d)$", expressions[alert])[1] == str(fewest), alert  # type: ignore[index]


def test_alerts_and_a_federation_know_the_name_of_the_stack(run: Run) -> None:
    written = yaml.safe_load(files_of(run(monitoring="true"), "prometheus")["prometheus.yml"])
    assert written["global"]["external_labels"] == {"stack": "unit"}


def test_rules_know_the_redis_limit_of_the_settings(run: Run) -> None:
    files = files_of(run(monitoring="true", redisMaxclients="500"), "prometheus")
    (group,) = yaml.safe_load(files["rules-limits.yml"])["groups"]
    assert group["rules"] == [{"record": "groundwork_redis_max_clients", "expr": "vector(500)"}]


def test_rules_know_when_servers_and_their_authority_expire(run: Run) -> None:
    files = files_of(run(monitoring="true"), "prometheus")
    (group,) = yaml.safe_load(files[configuration.CERTIFICATES_FILE])["groups"]
    assert [rule["labels"]["server"] for rule in group["rules"]] == ["postgres", "redis", "authority"]

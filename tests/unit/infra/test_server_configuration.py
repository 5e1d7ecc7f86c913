"""postgresql.conf, pg_hba.conf and redis.conf: derived values, fixed values, and quoting."""

from __future__ import annotations

import json

from infra.spec import postgres, postgres_cluster, redis
from tests.cases import in_case
from tests.promises import promise

GB = 1024**3


def test_a_fixed_parameter_overrides_any_other() -> None:
    for name in sorted(postgres.FIXED_PARAMETERS):
        with in_case(name):
            assert postgres.parameters(GB, 100, {name: "x"})[name] == postgres.FIXED_PARAMETERS[name]


def test_a_given_parameter_overrides_a_derived_one() -> None:
    assert postgres.parameters(GB, 100, {"work_mem": "9MB"})["work_mem"] == "9MB"


def test_memory_is_divided_into_quarters() -> None:
    cases: list[tuple[int, str, str]] = [
        (256 * 1024**2, "64MB", "1024kB"),
        (GB, "256MB", "2621kB"),
        (8 * GB, "2048MB", "20971kB"),
    ]
    for memory, shared_buffers, work_mem in cases:
        with in_case(memory, shared_buffers, work_mem):
            values = postgres.parameters(memory, 100)
            assert values["shared_buffers"] == shared_buffers
            assert values["work_mem"] == work_mem


def test_a_quote_or_backslash_stays_inside_its_value() -> None:
    conf = postgres.render_conf({"log_line_prefix": "it's \\ 100%"})
    assert conf == "log_line_prefix = 'it''s \\\\ 100%'\n"


def test_the_last_rule_of_pg_hba_rejects_everything() -> None:
    rules = postgres.render_hba().splitlines()
    assert rules[-1].split() == ["host", "all", "all", "all", "reject"]


def test_no_rule_of_pg_hba_trusts_or_accepts_a_plain_password() -> None:
    methods = {line.split()[-1] for line in postgres.render_hba().splitlines()}
    assert methods == {"peer", "reject", "scram-sha-256"}


def test_roles_can_connect_only_to_the_applications_database() -> None:
    accepted = [line.split() for line in postgres.render_hba().splitlines() if line.endswith("scram-sha-256")]
    assert [(rule[0], rule[1]) for rule in accepted] == [("hostssl", "groundwork")]


def test_redis_has_no_plain_port_and_dangerous_commands_are_off() -> None:
    for persistence in redis.PERSISTENCE:
        with in_case(persistence):
            conf = redis.render_conf(
                maxmemory_bytes=1024, eviction_policy="noeviction", persistence=persistence
            )
            values = dict(line.split(" ", 1) for line in conf.splitlines())
            assert values["port"] == "0"
            switches = {key: value for key, value in values.items() if key.startswith("enable-")}
            assert switches == dict.fromkeys(
                ("enable-debug-command", "enable-module-command", "enable-protected-configs"), "no"
            )


def test_redis_gets_the_eviction_policy_and_the_memory_of_the_settings() -> None:
    for policy in redis.EVICTION_POLICIES:
        conf = redis.render_conf(
            maxmemory_bytes=1024, eviction_policy=policy, persistence="none"
        ).splitlines()
        assert f"maxmemory-policy {policy}" in conf
        assert "maxmemory 1024" in conf, policy


def test_only_members_of_a_cluster_replicate_and_only_with_a_certificate() -> None:
    assert "replicator" not in postgres.render_hba()
    rules = [line.split() for line in postgres.render_hba(members="members").splitlines()]
    assert [rule for rule in rules if "replicator" in rule] == [
        ["hostssl", database, "replicator", "samenet", "cert", "map=members"]
        for database in ("replication", "postgres")
    ]
    assert rules[-1] == ["host", "all", "all", "all", "reject"]


@promise("silent connections to Patroni's API leave threads for the members")
def test_patronis_api_has_more_threads_than_its_defaults_and_the_pids_for_them() -> None:
    api = json.loads(postgres_cluster.render_member("postgres", "10.0.0.20", {}))["restapi"]
    # A container without pids for its threads could not start a server process.
    assert 30 < api["thread_pool_size"] < postgres_cluster.PIDS
    assert api["request_queue_size"] >= api["thread_pool_size"]


@promise("a replication slot keeps no more WAL than is kept for a replica that is behind")
def test_replication_slots_and_connections_of_members_have_a_bound() -> None:
    values = postgres_cluster.parameters({})
    assert values["max_slot_wal_keep_size"] == values["wal_keep_size"]
    assert "max_slot_wal_keep_size" in postgres_cluster.REFUSED_PARAMETERS
    # Two connections of pg_basebackup, one of pg_rewind and one of Patroni for each replica.
    limit = postgres_cluster.REPLICATOR_CONNECTIONS
    assert 4 * postgres_cluster.REPLICAS <= limit < postgres_cluster.FEWEST_CONNECTIONS
    assert (
        f"CREATE ROLE replicator LOGIN REPLICATION CONNECTION LIMIT {limit};"
        in postgres_cluster.replicator_sql()
    )

"""RDS and ElastiCache: every control of docs/security.md on a server, and the rendered specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra import outputs
from infra.spec import elasticache, rds, rds_defaults, redis_acl, redis_replication
from tests.aws_outputs import ACCOUNT, REGION
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.aws.program import BACKUP_KEY, TYPES, document, one, run_aws_program
from tests.unit.infra.program import CANARY, Program, plain_texts

SECRET = "aws:secretsmanager/secret:Secret"
INSTANCES = ("postgres", "postgres-replica-1")
# Resources that hold data, or that are needed to read data.
STATEFUL = {
    ("instance", "postgres"),
    ("replication group", "redis"),
    ("key", "postgres"),
    ("key", "redis"),
    ("key", "operations"),
}


@promise("RDS copies backups to the region of `awsBackupCopyKey`, for as many days as it keeps its own")
def test_backups_are_copied_to_the_region_of_the_key(existing_vpc: Program, program: Program) -> None:
    instance = one(existing_vpc, "instance", "postgres")
    copies = one(existing_vpc, "backup copies")
    assert copies == {
        "region": "eu-west-1",
        "kmsKeyId": BACKUP_KEY,
        "retentionPeriod": instance["backupRetentionPeriod"],
        "sourceDbInstanceArn": f"arn:aws:rds:{REGION}:{ACCOUNT}:postgres",
    }
    assert not program.of_type(TYPES["backup copies"])


@pytest.fixture(params=INSTANCES)
def instance(request: pytest.FixtureRequest, program: Program) -> dict[str, Any]:
    return one(program, "instance", request.param)


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("publiclyAccessible", False),
        ("storageEncrypted", True),
        ("iamDatabaseAuthenticationEnabled", True),
        ("monitoringInterval", 60),
        ("monitoringRoleArn", "arn:aws:iam:eu-central-1:123456789012:postgres-monitoring"),
        ("performanceInsightsEnabled", True),
        ("performanceInsightsKmsKeyId", "arn:aws:kms:eu-central-1:123456789012:postgres"),
        ("enabledCloudwatchLogsExports", ["postgresql", "upgrade"]),
        ("autoMinorVersionUpgrade", True),
        ("copyTagsToSnapshot", True),
        ("vpcSecurityGroupIds", ["postgres-id"]),
        ("port", rds.PORT),
        ("caCertIdentifier", "rds-ca-rsa2048-g1"),
        ("parameterGroupName", "groundwork-unit-postgres15"),
        ("storageType", "gp3"),
    ],
)
def test_an_instance_and_its_replica_have_a_control(
    instance: dict[str, Any], control: str, value: object
) -> None:
    assert instance[control] == value


def test_the_primary_has_a_control(program: Program) -> None:
    cases: list[tuple[str, object]] = [
        ("engine", "postgres"),
        ("engineVersion", "15"),
        ("multiAz", True),
        ("allocatedStorage", 50),
        ("maxAllocatedStorage", 200),
        ("backupRetentionPeriod", 14),
        ("deleteAutomatedBackups", False),
        ("deletionProtection", True),
        ("skipFinalSnapshot", False),
        ("finalSnapshotIdentifier", "groundwork-unit-final"),
        ("kmsKeyId", "arn:aws:kms:eu-central-1:123456789012:postgres"),
        ("username", rds.ADMIN),
        ("dbSubnetGroupName", "groundwork-unit"),
        ("applyImmediately", False),
        ("allowMajorVersionUpgrade", False),
    ]
    for control, value in cases:
        with in_case(control, value):
            assert one(program, "instance", "postgres")[control] == value


def test_rds_stores_the_administrators_password(existing_vpc: Program) -> None:
    primary = one(existing_vpc, "instance", "postgres")
    assert primary["manageMasterUserPassword"] is True
    assert primary["masterUserSecretKmsKeyId"] == "arn:aws:kms:eu-central-1:123456789012:postgres"
    assert not {"password", "passwordWo"} & primary.keys()
    assert not existing_vpc.of_type(SECRET)


@promise("with read replicas the administrator's password is never read back")
def test_with_replicas_the_stack_stores_the_password_write_only(program: Program) -> None:
    """RDS cannot create a replica of an instance if it stores the administrator's password."""
    primary = one(program, "instance", "postgres")
    assert not {"password", "manageMasterUserPassword"} & primary.keys()
    assert primary["passwordWo"]["value"] == f"{CANARY}-postgres-admin-value"
    (secret,) = program.of_type(SECRET).values()
    assert secret.inputs["kmsKeyId"] == "arn:aws:kms:eu-central-1:123456789012:postgres"
    (version,) = program.of_type("aws:secretsmanager/secretVersion:SecretVersion").values()
    assert "secretString" not in version.inputs
    kept = json.loads(version.inputs["secretStringWo"]["value"])
    assert kept == {"username": rds.ADMIN, "password": primary["passwordWo"]["value"]}


def test_port_and_administrator_are_not_the_defaults() -> None:
    assert rds.PORT != 5432
    assert rds.ADMIN != "postgres"


def test_a_replica_follows_the_primary(program: Program) -> None:
    replica = one(program, "instance", "postgres-replica-1")
    assert replica["replicateSourceDb"] == "groundwork-unit"
    # Inherited from the primary. RDS rejects them on a replica.
    assert not {"username", "manageMasterUserPassword", "passwordWo"} & replica.keys()
    assert not {"engine", "allocatedStorage", "kmsKeyId"} & replica.keys()


def test_a_replica_writes_as_fast_as_the_primary(tmp_path: Path) -> None:
    settings = {"awsPostgresStorage": "400GB", "awsPostgresMaxStorage": "800GB", "awsPostgresIops": "13000"}
    program = run_aws_program(tmp_path, postgresReplicas="1", **settings)
    assert {name: one(program, "instance", name)["iops"] for name in INSTANCES} == dict.fromkeys(
        INSTANCES, 13000
    )


def test_parameters_match_the_specification_and_static_ones_wait_for_a_restart(program: Program) -> None:
    parameters = {p["name"]: p for p in one(program, "postgres parameters")["parameters"]}
    assert parameters["rds.force_ssl"]["value"] == "1"
    assert {name: p["value"] for name, p in parameters.items()} == rds.parameters(4 * 1024**3, 100, {})
    methods = {name: p["applyMethod"] for name, p in parameters.items()}
    assert {name for name, method in methods.items() if method == "pending-reboot"} == {
        "max_connections",
        "max_locks_per_transaction",
        "pg_stat_statements.max",
        "shared_buffers",
        "shared_preload_libraries",
        # Equal to the default of Postgres or RDS.
        "checkpoint_completion_target",
        "log_checkpoints",
        "max_wal_size",
        "password_encryption",
        "rds.force_ssl",
        "ssl_min_protocol_version",
        "timezone",
        "track_io_timing",
    }
    assert {"max_worker_processes", "wal_buffers", "track_activity_query_size"} <= rds.STATIC
    assert one(program, "postgres parameters")["family"] == "postgres15"


def returned(name: str, value: str, method: str) -> str:
    """Return the apply method that RDS reports: `pending-reboot` for a default, however it was sent."""
    return "pending-reboot" if rds_defaults.is_default(name, value) else method


@promise("no parameter is sent that AWS returns in another form")
def test_a_parameter_of_postgres_is_returned_as_it_is_sent() -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "rds.force_ssl"),
        ({"work_mem": "4MB"}, "work_mem"),
        ({"autovacuum": "on"}, "autovacuum"),
        ({"idle_in_transaction_session_timeout": "0"}, "idle_in_transaction_session_timeout"),
        ({"log_statement": "none"}, "log_statement"),
        ({"synchronous_commit": "on"}, "synchronous_commit"),
        ({"jit": "yes"}, "jit"),
    ]
    for more, name in cases:
        with in_case(more, name):
            sent = {
                key: (value, rds.apply_method(key, value))
                for key, value in rds.parameters(1, 100, more).items()
            }
            assert sent[name][1] == "pending-reboot"
            for key, (value, method) in sent.items():
                assert returned(key, value, method) == method, key


@promise("no parameter is sent that AWS returns in another form", control=True)
def test_a_default_that_is_sent_as_immediate_is_returned_in_another_way() -> None:
    assert returned("rds.force_ssl", "1", "immediate") != "immediate"
    assert rds.apply_method("work_mem", "8192") == "immediate"


@promise("no parameter is sent that AWS returns in another form")
def test_a_parameter_of_redis_that_equals_the_default_is_not_sent() -> None:
    cases: list[tuple[str, str, int, set[str]]] = [
        ("redis-7.1", "allkeys-lfu", 30, set()),
        ("redis-7.1", "allkeys-lfu", 25, {"reserved-memory-percent"}),
        ("redis-7.1", "volatile-lru", 25, {"reserved-memory-percent", "maxmemory-policy"}),
        ("valkey-7.2", "allkeys-lfu", 30, set()),
        # Without the parameters that ElastiCache's family valkey8 does not have.
        ("valkey-8.2", "allkeys-lfu", 30, {"lazyfree-lazy-eviction", "lazyfree-lazy-expire"}),
    ]
    for engine, policy, percent, missing in cases:
        with in_case(engine, policy, percent, missing):
            every = {"maxmemory-policy", "reserved-memory-percent", "lazyfree-lazy-eviction", "lazyfree-lazy-expire",
                     "tcp-keepalive"}  # fmt: skip
            of_family = elasticache.ENGINES[engine]
            sent = elasticache.parameters(of_family, eviction_policy=policy, reserved_percent=percent)
            assert every - set(sent) == missing


def test_the_replication_group_has_a_control(program: Program) -> None:
    cases: list[tuple[str, object]] = [
        ("engine", "redis"),
        ("engineVersion", "7.1"),
        ("automaticFailoverEnabled", True),
        ("multiAzEnabled", True),
        ("numCacheClusters", 2),
        ("atRestEncryptionEnabled", True),
        ("kmsKeyId", "arn:aws:kms:eu-central-1:123456789012:redis"),
        ("transitEncryptionEnabled", True),
        ("transitEncryptionMode", "required"),
        ("userGroupIds", ["groundwork-unit"]),
        ("snapshotRetentionLimit", 7),
        ("autoMinorVersionUpgrade", True),
        ("subnetGroupName", "groundwork-unit"),
        ("securityGroupIds", ["redis-id"]),
        ("parameterGroupName", "groundwork-unit-redis7"),
        ("notificationTopicArn", "arn:aws:sns:eu-central-1:123456789012:cache-events"),
    ]
    for control, value in cases:
        with in_case(control, value):
            assert one(program, "replication group")[control] == value


@promise(
    "another engine of ElastiCache changes three properties of the replication group, and deletes nothing"
)
@pytest.mark.parametrize(
    ("key", "engine", "families"),
    [
        ("valkey-7.2", ("valkey", "7.2"), ["redis7", "valkey7"]),
        ("valkey-8.2", ("valkey", "8.2"), ["redis7", "valkey7", "valkey8"]),
    ],
)
def test_another_engine_changes_the_replication_group_and_adds_parameter_groups(
    tmp_path: Path, unprotected: Program, key: str, engine: tuple[str, str], families: list[str]
) -> None:
    """ElastiCache changes the engine later, and refuses to delete the parameter group that it uses until then."""
    before = {(r.type, r.name): r.inputs for r in unprotected.resources}
    program = run_aws_program(tmp_path, protectData="false", awsRedisEngine=key)
    after = {(r.type, r.name): r.inputs for r in program.resources}
    added = {name for name in after if name not in before}
    changed = {name for name in before if before[name] != after[name]}
    assert added == {
        (TYPES["redis parameters"], f"redis-{family}") for family in families if family != "redis7"
    }
    assert changed == {(TYPES["replication group"], "redis")}
    old, new = (all_of[TYPES["replication group"], "redis"] for all_of in (before, after))
    assert {name for name in old | new if old.get(name) != new.get(name)} == {
        "engine",
        "engineVersion",
        "parameterGroupName",
    }
    assert (new["engine"], new["engineVersion"]) == engine
    assert new["parameterGroupName"] == f"groundwork-unit-{families[-1]}"


@promise("on AWS a primary of Redis without a replica stops writing, if the stack has redisReplicas")
@pytest.mark.parametrize(
    ("settings", "nodes"),
    [({}, 3), ({"awsRedisNodes": "3"}, 3), ({"awsRedisNodes": "5"}, 5)],
)
def test_redis_replicas_are_three_nodes_or_more_with_a_fence(
    tmp_path: Path, settings: dict[str, str], nodes: int
) -> None:
    program = run_aws_program(tmp_path, redisReplicas="2", **settings)
    assert one(program, "replication group")["numCacheClusters"] == nodes
    sent = {p["name"]: p["value"] for p in one(program, "redis parameters")["parameters"]}
    assert {k: v for k, v in sent.items() if k.startswith("min-")} == redis_replication.FENCE
    expected = program.exports[outputs.EXPECTED][0]["highAvailability"]
    assert expected["redis"] == {"replicas": nodes - 1, "failoverSeconds": None, "isFenced": True}


@promise(
    "on AWS a primary of Redis without a replica stops writing, if the stack has redisReplicas", control=True
)
def test_nodes_alone_are_not_fenced(program: Program) -> None:
    sent = {p["name"] for p in one(program, "redis parameters")["parameters"]}
    assert not sent & set(redis_replication.FENCE)
    expected = program.exports[outputs.EXPECTED][0]["highAvailability"]
    assert expected["redis"] == {"replicas": 1, "failoverSeconds": None, "isFenced": False}
    assert expected["postgres"] == {"replicas": 1, "failoverSeconds": 120, "losesNothing": True}


def test_without_a_standby_no_failover_is_promised(tmp_path: Path) -> None:
    program = run_aws_program(tmp_path, awsPostgresMultiAz="false")
    expected = program.exports[outputs.EXPECTED][0]["highAvailability"]
    assert expected["postgres"] == {"replicas": 0, "failoverSeconds": None, "losesNothing": False}


def test_redis_has_no_auth_token(program: Program) -> None:
    assert not {"authToken", "authTokenWo"} & one(program, "replication group").keys()


def test_redis_delivers_both_logs_to_the_stacks_log_groups(program: Program) -> None:
    configured = one(program, "replication group")["logDeliveryConfigurations"]
    assert {(c["logType"], c["destination"]) for c in configured} == {
        ("slow-log", "/groundwork/unit/redis/slow-log"),
        ("engine-log", "/groundwork/unit/redis/engine-log"),
    }


def test_redis_parameters_contain_the_eviction_policy_and_the_reserved_memory(program: Program) -> None:
    parameters = {p["name"]: p["value"] for p in one(program, "redis parameters")["parameters"]}
    assert parameters["maxmemory-policy"] == "allkeys-lfu"
    # 25, the default of the setting, is ElastiCache's own.
    assert "reserved-memory-percent" not in parameters


def test_the_default_user_is_off(program: Program) -> None:
    user = one(program, "user", "redis-default")
    assert user["userName"] == "default"
    assert user["userId"] != "default"
    assert user["noPasswordRequired"] is True
    assert "authenticationMode" not in user
    assert user["accessString"].split()[0] == "off"
    assert "+" not in user["accessString"]


def test_a_user_has_the_rules_of_the_acl_file_and_logs_in_with_iam(program: Program) -> None:
    for user in redis_acl.USERS:
        with in_case(user):
            inputs = one(program, "user", f"redis-{user.name}")
            assert inputs["authenticationMode"] == {"type": "iam"}
            # IAM requires that both are equal.
            assert inputs["userId"] == inputs["userName"] == f"groundwork-unit-{user.name}"
            local, here = user.access_string().split(), inputs["accessString"].split()
            assert here[0] == "on"
            assert "resetkeys" not in here
            kept_by_aws = set(local) - set(here) - {"resetkeys"}
            # A subcommand of an allowed command is left out.
            kept_by_aws -= {rule for rule in kept_by_aws if rule.partition("|")[0] in here}
            assert kept_by_aws <= {"+acl|load", "+config|get"}
            assert set(here[1:]) <= set(local)
            if user.name == "app":
                assert not kept_by_aws


def test_the_user_group_contains_every_user(program: Program) -> None:
    users = {r.inputs["userId"] for r in program.of_type(TYPES["user"]).values()}
    assert set(one(program, "user group")["userIds"]) == users


@promise("on AWS the settings protect every resource that holds data")
def test_resources_with_data_are_protected(program: Program) -> None:
    for kind, name in sorted(STATEFUL):
        with in_case(kind, name):
            assert program.of_type(TYPES[kind])[name].protect is True


def test_the_protection_can_be_turned_off(unprotected: Program) -> None:
    for kind, name in sorted(STATEFUL):
        with in_case(kind, name):
            assert unprotected.of_type(TYPES[kind])[name].protect is False
            if kind == "instance":
                assert unprotected.of_type(TYPES[kind])[name].inputs["deletionProtection"] is False


@promise("on AWS the settings protect every resource that holds data", control=True)
def test_nothing_else_is_protected(program: Program) -> None:
    kinds = {TYPES[kind]: kind for kind in TYPES}
    found = {(kinds.get(r.type, r.type), r.name) for r in program.resources if r.protect}
    assert found == STATEFUL
    replica = program.of_type(TYPES["instance"])["postgres-replica-1"]
    assert replica.inputs["deletionProtection"] is False


def test_a_key_is_rotated_and_allows_services_for_this_account_only(program: Program) -> None:
    for name in ("postgres", "redis", "operations"):
        with in_case(name):
            key = one(program, "key", name)
            assert key["enableKeyRotation"] is True
            assert key["deletionWindowInDays"] == 30
            for statement in document(key["policy"]):
                assert statement["Principal"] != "*"
                if "Service" in statement["Principal"]:
                    assert "123456789012" in str(statement["Condition"])
                else:
                    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}


def test_no_input_contains_a_secret_in_plain_text(program: Program) -> None:
    for resource in program.resources:
        assert not [text for text in plain_texts(resource.inputs) if "canary" in text], resource.urn

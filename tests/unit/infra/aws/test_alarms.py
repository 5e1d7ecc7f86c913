"""Alarms, events, logs and dashboard on AWS, and the stack outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

from db.login import refusal_of
from infra import outputs
from infra.settings import StackSettings
from infra.spec import alarms, redis
from infra.spec.errors import InfraError, SettingError
from ops.doctor.thresholds import Thresholds
from tests.aws_outputs import ACCOUNT
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.aws.program import SETTINGS, TYPES, document, one, run_aws_program
from tests.unit.infra.program import CANARY, Program
from tests.unit.policy.test_aws_program import settings_of

ROOT = Path(__file__).parents[4]
METRICS = {
    "AWS/RDS": {
        "CPUUtilization",
        "FreeStorageSpace",
        "DatabaseConnections",
        "FreeableMemory",
        "CPUCreditBalance",
        "EBSIOBalance%",
        "EBSByteBalance%",
        "MaximumUsedTransactionIDs",
        "ReplicaLag",
    },
    "AWS/ElastiCache": {
        "CPUUtilization",
        "CPUCreditBalance",
        "EngineCPUUtilization",
        "Evictions",
        "CurrConnections",
        "ReplicationLag",
        "CacheHitRate",
    },
    "ECS/ContainerInsights": {"RunningTaskCount"},
    "groundwork-unit": {
        "access-not-ready",
        "postgres-primary-refused-logins",
        "postgres-replica-1-refused-logins",
    },
}


@promise("each watched metric has an alarm")
def test_every_watched_metric_has_an_alarm(program: Program) -> None:
    found: dict[str, set[str]] = {}
    for alarm in program.of_type(TYPES["alarm"]).values():
        found.setdefault(alarm.inputs["namespace"], set()).add(alarm.inputs["metricName"])
    assert found == METRICS


def test_every_server_is_watched(program: Program) -> None:
    watched = {
        value
        for alarm in program.of_type(TYPES["alarm"]).values()
        for name, value in alarm.inputs.get("dimensions", {}).items()
        if name in ("DBInstanceIdentifier", "CacheClusterId")
    }
    assert watched == {
        "groundwork-unit",
        "groundwork-unit-replica-1",
        "groundwork-unit-001",
        "groundwork-unit-002",
    }


def test_an_alarm_and_its_recovery_are_sent_with_instructions(program: Program) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    for alarm in program.of_type(TYPES["alarm"]).values():
        assert alarm.inputs["alarmActions"] == [topic], alarm.urn
        assert alarm.inputs["okActions"] == [topic], alarm.urn
        assert len(alarm.inputs["alarmDescription"]) > 20, alarm.urn


def test_thresholds_follow_the_settings(program: Program) -> None:
    found = program.of_type(TYPES["alarm"])
    # Of the roles' connection limits, 40 + 10 + 5 + 5.
    assert found["postgres-primary-connections"].inputs["threshold"] == 48
    # Less than the tenth at which RDS makes a storage of 50 GB larger.
    assert found["postgres-primary-storage"].inputs["threshold"] == 2.5 * 1024**3
    # As early as `doctor` warns.
    assert found["postgres-primary-wraparound"].inputs["threshold"] == Thresholds().transaction_age_warn
    assert found["access-tasks"].inputs["threshold"] == 2
    assert found["access-tasks"].inputs["treatMissingData"] == "breaching"


def test_only_burstable_classes_have_an_alarm_on_cpu_credits() -> None:
    cases: list[tuple[str, str, set[str]]] = [
        ("db.t4g.medium", "cache.r7g.large", {"postgres-primary-cpu-credits"}),
        ("db.m7g.large", "cache.t3.small", {"redis-001-cpu-credits"}),
        ("db.r7g.large", "cache.m7g.large", set()),
    ]
    for instance_class, node_type, with_credits in cases:
        with in_case(instance_class, node_type, with_credits):
            found = [
                *alarms.postgres_alarms(
                    primary="p",
                    replicas=(),
                    instance_class=instance_class,
                    storage_bytes=1,
                    connections=1,
                    namespace="n",
                ),
                *alarms.redis_alarms(nodes=["p-001"], node_type=node_type, eviction_policy="allkeys-lfu"),
            ]
            assert {a.name for a in found if a.metric == "CPUCreditBalance"} == with_credits


def test_only_a_redis_that_does_not_evict_has_an_alarm_on_memory(tmp_path: Path) -> None:
    """A cache that evicts entries is normally full, whichever entries its policy evicts."""
    for policy in redis.EVICTION_POLICIES:
        with in_case(policy):
            found = alarms.redis_alarms(nodes=["p-001"], node_type="cache.t3.small", eviction_policy=policy)
            names = {a.name for a in found if a.metric == "DatabaseMemoryUsagePercentage"}
            assert names == ({"redis-001-memory"} if policy == "noeviction" else set())
    program = run_aws_program(tmp_path, redisEvictionPolicy="noeviction")
    assert {"redis-001-memory", "redis-002-memory"} <= set(program.of_type(TYPES["alarm"]))


def test_an_alarm_has_as_many_periods_as_its_time(program: Program) -> None:
    credits = one(program, "alarm", "postgres-primary-cpu-credits")
    # AWS measures credits every five minutes.
    assert (credits["period"], credits["evaluationPeriods"]) == (300, 12)
    usage = one(program, "alarm", "postgres-primary-cpu")
    assert (usage["period"], usage["evaluationPeriods"]) == (60, 15)


@promise("each watched metric has an alarm")
def test_a_metric_of_the_stack_counts_lines_of_a_log_of_the_stack(program: Program) -> None:
    filters = program.of_type(TYPES["metric filter"])
    groups = {each.inputs["name"] for each in program.of_type(TYPES["log group"]).values()}
    counted = {
        (f.inputs["metricTransformation"]["namespace"], f.inputs["metricTransformation"]["name"])
        for f in filters.values()
    }
    own = {("groundwork-unit", metric) for metric in METRICS["groundwork-unit"]}
    assert counted == own
    for name, each in filters.items():
        assert each.inputs["logGroupName"] in groups, name
        alarm = one(program, "alarm", name)
        assert alarm["metricName"] == each.inputs["metricTransformation"]["name"]
        # Without a line there is no value.
        assert (alarm["statistic"], alarm["treatMissingData"]) == ("Sum", "notBreaching")


def test_alarm_on_connections_fires_before_the_roles_limits_end_logins(tmp_path: Path) -> None:
    """max_connections is larger than the limits together, so that 80 % of it may never be reached."""
    for stack in (None, "staging", "prod"):
        with in_case(stack):
            settings = settings_of(stack) if stack else {}
            parsed = StackSettings.parse(SETTINGS | settings)
            program = run_aws_program(tmp_path, **settings)
            threshold = one(program, "alarm", "postgres-primary-connections")["threshold"]
            assert threshold < sum(parsed.connection_limits.values())


def test_every_refused_login_of_every_instance_has_an_alarm(program: Program) -> None:
    """RDS has no metric of each role's connections, so that nothing else shows that one role is at its limit."""
    messages = [
        # What Postgres 15 logs.
        'FATAL:  too many connections for role "app"',
        'FATAL:  too many connections for database "groundwork"',
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for non-replication superuser connections",
    ]
    for of, identifier in (("primary", "groundwork-unit"), ("replica-1", "groundwork-unit-replica-1")):
        found = one(program, "metric filter", f"postgres-{of}-refused-logins")
        assert found["logGroupName"] == f"/aws/rds/instance/{identifier}/postgresql"
        assert one(program, "alarm", f"postgres-{of}-refused-logins")["threshold"] == 0
        # The form `?"A" ?"B"` matches lines with A or B.
        terms = re.findall(r'\?"([^"]+)"', found["pattern"])
        assert " ".join(f'?"{term}"' for term in terms) == found["pattern"]
        for message in messages:
            with in_case(of, message):
                assert any(term in message for term in terms)
                # The library recognizes the same refusals.
                assert refusal_of(psycopg.OperationalError(message)).sqlstate == "53300"


def test_access_tasks_that_ecs_replaces_again_and_again_have_an_alarm(program: Program) -> None:
    """They run in most minutes, so that the alarm on the number of tasks does not fire."""
    assert one(program, "metric filter", "access-ready")["logGroupName"] == "/groundwork/unit/access"
    alarm = one(program, "alarm", "access-ready")
    assert (alarm["threshold"], alarm["period"], alarm["evaluationPeriods"]) == (0, 300, 3)


def test_an_encrypted_topic_is_refused(tmp_path: Path) -> None:
    """ElastiCache cannot publish to it. AWS would accept the topic, and drop the events."""
    given = f"arn:aws:sns:eu-central-1:{ACCOUNT}:company"
    with pytest.raises(SettingError, match=r"company is encrypted.*; name a topic without a key"):
        run_aws_program(tmp_path, topic={"KmsMasterKeyId": "alias/aws/sns"}, awsAlarmTopic=given)


def test_the_topic_is_encrypted_and_has_its_subscriber(program: Program, existing_vpc: Program) -> None:
    assert one(program, "topic", "alarms")["kmsMasterKeyId"].endswith(":operations")
    for subscription in program.of_type("aws:sns/topicSubscription:TopicSubscription").values():
        assert subscription.inputs["endpoint"] == "ops@example.com"
    assert not existing_vpc.of_type(TYPES["topic"])
    alarm = one(existing_vpc, "alarm", "access-tasks")
    assert alarm["alarmActions"] == ["arn:aws:sns:eu-central-1:123456789012:existing"]


def test_elasticache_events_have_a_topic_that_elasticache_can_publish_to(program: Program) -> None:
    """ElastiCache cannot publish to an encrypted topic, or to one whose policy requires aws:SourceAccount."""
    assert "kmsMasterKeyId" not in one(program, "topic", "cache-events")
    policies = program.of_type("aws:sns/topicPolicy:TopicPolicy")
    conditions = {name: document(each.inputs["policy"])[0]["Condition"] for name, each in policies.items()}
    assert conditions == {
        "alarms": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
        "cache-events": {"StringEquals": {"aws:SourceOwner": ACCOUNT}},
    }


def test_rds_events_cover_instances_parameter_groups_and_security_groups(program: Program) -> None:
    events = {r.inputs["sourceType"]: r.inputs for r in program.of_type(TYPES["events"]).values()}
    assert set(events) == {"db-instance", "db-parameter-group", "db-security-group"}
    assert events["db-instance"]["sourceIds"] == ["groundwork-unit", "groundwork-unit-replica-1"]
    assert {"maintenance", "configuration change", "failure"} <= set(events["db-instance"]["eventCategories"])
    assert events["db-parameter-group"]["eventCategories"] == ["configuration change"]


@promise("on AWS every log group is encrypted and has a retention period")
def test_every_log_group_is_encrypted_and_has_a_retention(program: Program) -> None:
    groups = program.of_type(TYPES["log group"])
    assert {
        "/aws/rds/instance/groundwork-unit/postgresql",
        "/aws/rds/instance/groundwork-unit/upgrade",
        "/aws/rds/instance/groundwork-unit-replica-1/postgresql",
        "/aws/ecs/containerinsights/groundwork-unit/performance",
    } <= {r.inputs["name"] for r in groups.values()}
    for group in groups.values():
        assert group.inputs["kmsKeyId"].endswith(":operations"), group.urn
        assert group.inputs["retentionInDays"] == 30, group.urn


def test_the_dashboard_shows_every_metric_with_its_threshold(program: Program) -> None:
    widgets = json.loads(one(program, "dashboard")["dashboardBody"])["widgets"]
    drawn = {(w["properties"]["metrics"][0][0], w["properties"]["title"]) for w in widgets}
    assert drawn == {(namespace, metric) for namespace, metrics in METRICS.items() for metric in metrics}
    assert all(w["properties"]["annotations"]["horizontal"] for w in widgets)
    places = {(w["x"], w["y"]) for w in widgets}
    assert len(places) == len(widgets)


def test_outputs_name_the_servers_and_contain_no_password(program: Program) -> None:
    values = {name: value for name, (value, _) in program.exports.items()}
    assert values[outputs.TARGET] == "aws"
    assert values[outputs.POSTGRES] == {
        "host": "postgres.abc.eu-central-1.rds.amazonaws.com",
        "port": 15432,
    }
    assert values[outputs.POSTGRES_REPLICAS][0]["host"].startswith("postgres-replica-1.")
    (replica,) = values[outputs.POSTGRES_REPLICAS]
    assert set(values[outputs.DATABASE_READ_URLS]) == set(outputs.READING_ROLES)
    listed = ",".join(f"{each['host']}:{each['port']}" for each in (replica, values[outputs.POSTGRES]))
    for url in values[outputs.DATABASE_READ_URLS].values():
        assert f"@{listed}/" in url
        assert "target_session_attrs=prefer-standby" in url
    assert values[outputs.BACKUPS] == {"region": "eu-central-1", "instance": "groundwork-unit"}
    assert set(values[outputs.DATABASE_URLS]) == {r for r, (login, _) in outputs.ROLES.items() if login}
    assert set(values[outputs.REDIS_URLS]) == {r for r, (_, user) in outputs.ROLES.items() if user}
    assert set(values[outputs.LOGIN_POLICIES]) == set(outputs.ROLES)
    secret = {name for name, (_, is_secret) in program.exports.items() if is_secret}
    assert secret == {outputs.TOKEN_KEYS}
    assert CANARY not in json.dumps({k: v for k, v in values.items() if k != outputs.TOKEN_KEYS})


@pytest.mark.parametrize("stack", ["Prod", "prod_1", "a--b", "-a", "p" * 40, "a-b-c-d-e-f-g-h-i"])
def test_an_invalid_stack_name_for_aws_is_refused(
    tmp_path_factory: pytest.TempPathFactory, stack: str
) -> None:
    with pytest.raises(InfraError, match="its name is part of resource names"):
        run_aws_program(tmp_path_factory.mktemp("state"), stack)

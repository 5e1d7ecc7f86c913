"""Settings on AWS: values that AWS would reject, or accept and ignore, are refused with a fix."""

from __future__ import annotations

import re
from typing import Any

import pytest

from infra.settings import AWS, StackSettings
from infra.spec.errors import SettingError
from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation.pages import ROOT
from tests.unit.infra.aws.program import EXISTING_VPC
from tests.unit.infra.test_settings import AWS_STACK, Bad

EXISTING = EXISTING_VPC | {"awsRouteTables": "rtb-00000001"}

BAD = {
    "a boundary that is an ARN": Bad(
        {"awsPermissionsBoundary": "arn:aws:iam::123456789012:policy/limits"},
        "awsPermissionsBoundary",
        "is not a valid name of an IAM policy",
        "without the part before policy/",
    ),
    "AOF on ElastiCache": Bad(
        {"redisPersistence": "aof"},
        "redisPersistence",
        "does not support append-only files",
        "use none, or rdb",
    ),
    "failover with one node": Bad(
        {"awsRedisNodes": 1},
        "awsRedisFailover",
        "with one node",
        "set it to false, or groundwork:awsRedisNodes",
    ),
    "storage below the engine's minimum": Bad(
        {"awsPostgresStorage": "19GB"}, "awsPostgresStorage", "19GB is too little", "use 20GB or more"
    ),
    "storage in megabytes": Bad(
        {"awsPostgresStorage": "20500MB"}, "awsPostgresStorage", "whole gigabytes", "like 50GB"
    ),
    "storage that cannot grow": Bad(
        {"awsPostgresStorage": "100GB", "awsPostgresMaxStorage": "109GB"},
        "awsPostgresMaxStorage",
        "too close to awsPostgresStorage (100GB)",
        "raise it to 110GB",
    ),
    "IOPS on a small disk": Bad(
        {"awsPostgresIops": 12000}, "awsPostgresIops", "gp3 storage of 50GB cannot have more", "400GB or more"
    ),
    "IOPS below what can be set": Bad(
        {"awsPostgresIops": 3000, "awsPostgresStorage": "400GB", "awsPostgresMaxStorage": "800GB"},
        "awsPostgresIops",
        "3000 is out of range",
        "12000 to 64000",
    ),
    "a setting under its old name": Bad(
        {"awsPostgresReplicas": 1},
        "awsPostgresReplicas",
        "it was renamed",
        "set groundwork:postgresReplicas",
    ),
    "more replicas than RDS replicates to in a row": Bad(
        {"postgresReplicas": 6}, "postgresReplicas", "6 is out of range", "use 0 to 5"
    ),
    "one replica of Redis": Bad(
        {"redisReplicas": 1}, "redisReplicas", "1 is not supported", "set it to 0 or 2; for more nodes"
    ),
    "a fence without failover": Bad(
        {"redisReplicas": 2, "awsRedisFailover": False},
        "awsRedisFailover",
        "groundwork:redisReplicas needs a replica that takes over",
        "set it to true",
    ),
    "throughput without IOPS": Bad(
        {"awsPostgresThroughput": 600},
        "awsPostgresThroughput",
        "need at least 2400 IOPS",
        "awsPostgresIops to 12000",
    ),
    "throughput beyond gp3": Bad(
        {"awsPostgresThroughput": 4001}, "awsPostgresThroughput", "out of range", "use 500 to 4000"
    ),
    "throughput beyond the IOPS": Bad(
        {
            "awsPostgresThroughput": 4000,
            "awsPostgresIops": 15_999,
            "awsPostgresStorage": "400GB",
            "awsPostgresMaxStorage": "800GB",
        },
        "awsPostgresThroughput",
        "need at least 16000 IOPS",
        "awsPostgresIops to 16000",
    ),
    "a mode of Database Insights that does not exist": Bad(
        {"awsDatabaseInsights": "advance"}, "awsDatabaseInsights", "'advance'", "did you mean advanced?"
    ),
    "advanced mode with a short history": Bad(
        {"awsDatabaseInsights": "advanced"},
        "awsDatabaseInsights",
        "at least 465 days",
        "awsInsightsDays to 465",
    ),
    "CIDR too small for the subnets": Bad(
        {"awsVpcCidr": "10.60.0.0/25"}, "awsVpcCidr", "too small for 6 subnets", "/24 or larger"
    ),
    "CIDR larger than a VPC": Bad(
        {"awsVpcCidr": "10.0.0.0/8"}, "awsVpcCidr", "larger than AWS allows", "/16 to /24"
    ),
    "public CIDR": Bad({"awsVpcCidr": "8.8.0.0/16"}, "awsVpcCidr", "is public", "like 10.60.0.0/16"),
    "loopback CIDR": Bad({"awsVpcCidr": "127.0.0.0/16"}, "awsVpcCidr", "reserved", "like 10.60.0.0/16"),
    "link-local CIDR": Bad({"awsVpcCidr": "169.254.0.0/16"}, "awsVpcCidr", "reserved", "like 10.60.0.0/16"),
    "reserved CIDR": Bad({"awsVpcCidr": "240.0.0.0/16"}, "awsVpcCidr", "reserved", "like 10.60.0.0/16"),
    "CIDR with host bits": Bad({"awsVpcCidr": "10.60.0.1/16"}, "awsVpcCidr", "has host bits", "10.60.0.0/16"),
    "an engine without a version": Bad(
        {"awsRedisEngine": "valkey"}, "awsRedisEngine", "'valkey'", "did you mean valkey-"
    ),
    "an engine that ElastiCache does not have": Bad(
        {"awsRedisEngine": "redis-7.2"}, "awsRedisEngine", "'redis-7.2'", "redis-7.1"
    ),
    "misspelt eviction policy": Bad(
        {"redisEvictionPolicy": "allkeys-lfru"},
        "redisEvictionPolicy",
        "'allkeys-lfru'",
        "did you mean allkeys-l",
    ),
    "more connections than the class's": Bad(
        {"awsPostgresClass": "db.t4g.micro", "postgresMaxConnections": 113},
        "postgresMaxConnections",
        "113 connections need more memory than db.t4g.micro has (maximum: 112)",
        "lower it to 112",
    ),
    "connections that RDS reserves": Bad(
        {"postgresMaxConnections": 64},
        "postgresMaxConnections",
        "add up to 60, but only 59 of 64 connections are available to them (5 are reserved",
        "raise it to 65",
    ),
    "pools larger than the limit": Bad(
        {"awsAccessCount": 5, "accessPoolSize": 8},
        "accessPoolSize",
        "5 tasks with 8 + 1 connections each are 45",
        "lower it to 7",
    ),
    "more tasks than connections": Bad(
        {"awsAccessCount": 30, "accessPoolSize": 1},
        "accessPoolSize",
        "30 tasks with 1 + 1 connections each are 60",
        "no pool size fits; raise groundwork:appConnectionLimit or lower groundwork:awsAccessCount",
    ),
    "retention below seven days": Bad(
        {"awsBackupRetentionDays": 6}, "awsBackupRetentionDays", "6 is out of range", "use 7 to 35"
    ),
    "no snapshots of Redis": Bad(
        {"awsRedisSnapshotDays": 0}, "awsRedisSnapshotDays", "0 is out of range", "use 1 to 35"
    ),
    "reserved memory below a quarter": Bad(
        {"awsRedisReservedPercent": 24}, "awsRedisReservedPercent", "24 is out of range", "use 25 to 75"
    ),
    "unknown class": Bad(
        {"awsPostgresClass": "db.r7g.larg"}, "awsPostgresClass", "'db.r7g.larg'", "did you mean db.r7g.large?"
    ),
    "unknown node type": Bad(
        {"awsRedisNodeType": "cache.t9.micro"}, "awsRedisNodeType", "'cache.t9.micro'", "did you mean cache.t"
    ),
    "no region": Bad({"awsRegion": ""}, "awsRegion", "it is not set", "like eu-central-1"),
    "zone for a region": Bad(
        {"awsRegion": "eu-central-1a"}, "awsRegion", "not a valid region", "like eu-central-1"
    ),
    "region in China": Bad(
        {"awsRegion": "cn-north-1"}, "awsRegion", "have other names in cn-north-1", "outside of China"
    ),
    "isolated region": Bad(
        {"awsRegion": "us-isob-east-1"}, "awsRegion", "have other names in us-isob-east-1", "outside of China"
    ),
    "one zone": Bad({"awsZones": "a"}, "awsZones", "too few", "two to four"),
    "a zone twice": Bad({"awsZones": "a,a"}, "awsZones", "not a list of zone letters", "like a,b,c"),
    "subnets without a VPC": Bad(
        {"awsPrivateSubnets": "subnet-00000001"}, "awsPrivateSubnets", "is not set", "set groundwork:awsVpcId"
    ),
    "no endpoints in a new VPC": Bad(
        {"awsVpcEndpoints": "false"}, "awsVpcEndpoints", "no other route to AWS", "set it to true"
    ),
    "existing VPC without subnets": Bad(
        {"awsVpcId": "vpc-01234567"},
        "awsPrivateSubnets",
        "at least 2 here, but there are 0",
        "in different zones",
    ),
    "existing VPC with one isolated subnet": Bad(
        EXISTING | {"awsIsolatedSubnets": "subnet-00000003"},
        "awsIsolatedSubnets",
        "at least 2 here, but there are 1",
        "ids",
    ),
    "existing VPC without route table": Bad(
        EXISTING | {"awsRouteTables": ""},
        "awsRouteTables",
        "at least 1 here, but there are 0",
        "awsVpcEndpoints to false",
    ),
    "CIDR of an existing VPC": Bad(
        EXISTING | {"awsVpcCidr": "10.70.0.0/16"}, "awsVpcCidr", "for a new VPC", "remove it"
    ),
    "zones of an existing VPC": Bad(
        EXISTING | {"awsZones": "a,b"},
        "awsZones",
        "for a new VPC",
        "those of groundwork:awsPrivateSubnets",
    ),
    "route tables without endpoints": Bad(
        EXISTING | {"awsVpcEndpoints": "false"}, "awsRouteTables", "awsVpcEndpoints is false", "remove it"
    ),
    "a subnet for both": Bad(
        EXISTING | {"awsIsolatedSubnets": "subnet-00000002,subnet-00000004"},
        "awsIsolatedSubnets",
        "subnet-00000002 is in",
        "separate subnets for Postgres and Redis",
    ),
    "VPC by name": Bad({"awsVpcId": "main"}, "awsVpcId", "not a valid VPC id", "like vpc-"),
    "backup window of a minute": Bad(
        {"awsBackupWindow": "02:00-02:01"}, "awsBackupWindow", "shorter than an hour", "an hour or longer"
    ),
    "backup window in words": Bad(
        {"awsBackupWindow": "night"}, "awsBackupWindow", "not a valid daily window", "02:00"
    ),
    "snapshot of another region": Bad(
        {"awsPostgresSnapshot": "arn:aws:rds:us-east-1:123456789012:snapshot:groundwork-prod-final"},
        "awsPostgresSnapshot",
        "not a valid snapshot in eu-central-1",
        "copy a snapshot of another region first",
    ),
    "snapshot with a bad name": Bad(
        {"awsPostgresSnapshot": "prod--final"},
        "awsPostgresSnapshot",
        "not a valid snapshot",
        "like groundwork-",
    ),
    "key of copies by alias": Bad(
        {"awsBackupCopyKey": "arn:aws:kms:eu-west-1:123456789012:alias/copies"},
        "awsBackupCopyKey",
        "not a valid ARN of a KMS key",
        "like arn:aws:kms:",
    ),
    "key of copies without a region": Bad(
        {"awsBackupCopyKey": "0a1b2c3d-0123-0123-0123-0123456789ab"},
        "awsBackupCopyKey",
        "not a valid ARN of a KMS key",
        "like arn:aws:kms:",
    ),
    "key of copies in the stack's region": Bad(
        {"awsBackupCopyKey": "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d"},
        "awsBackupCopyKey",
        "the region of the stack",
        "a key in another region",
    ),
    "windows that overlap": Bad(
        {"awsMaintenanceWindow": "sun:02:30-sun:03:30"}, "awsMaintenanceWindow", "overlaps", "move one"
    ),
    "windows that overlap over midnight": Bad(
        {"awsBackupWindow": "23:30-00:30", "awsMaintenanceWindow": "mon:00:00-mon:01:00"},
        "awsMaintenanceWindow",
        "overlaps",
        "move one",
    ),
    "maintenance for two days": Bad(
        {"awsMaintenanceWindow": "sun:03:30-tue:04:30"},
        "awsMaintenanceWindow",
        "longer than a day",
        "like sun:",
    ),
    "monitoring every two seconds": Bad(
        {"awsMonitoringSeconds": 2}, "awsMonitoringSeconds", "does not offer 2", "use 1, or another"
    ),
    "insights of eight days": Bad(
        {"awsInsightsDays": 8}, "awsInsightsDays", "does not keep 8 days", "a multiple of 31"
    ),
    "logs of ten days": Bad(
        {"awsLogRetentionDays": 10}, "awsLogRetentionDays", "does not offer 10", "use 7, or another of"
    ),
    "too much memory for the CPU": Bad(
        {"awsAccessMemory": "4GB"},
        "awsAccessMemory",
        "does not offer 4GB with 256 CPU units",
        "512MB, 1024MB",
    ),
    "half a CPU unit": Bad({"awsAccessCpu": 300}, "awsAccessCpu", "does not offer 300", "use 256"),
    "architecture of another world": Bad(
        {"awsAccessArchitecture": "x86"}, "awsAccessArchitecture", "'x86'", "amd64, arm64"
    ),
    "image by tag": Bad(
        {"awsAccessImage": "registry.example/access:1"},
        "awsAccessImage",
        "not a valid image in the region's ECR",
        "@sha256:",
    ),
    "image of another registry": Bad(
        {"awsAccessImage": f"registry.example/access@sha256:{'0' * 64}"},
        "awsAccessImage",
        "not a valid image in the region's ECR with its digest",
        "cannot reach other registries",
    ),
    "alarms by mail and topic": Bad(
        {"awsAlarmEmail": "a@example.com", "awsAlarmTopic": "arn:aws:sns:eu-central-1:123456789012:x"},
        "awsAlarmEmail",
        "is set too",
        "remove one",
    ),
    "address without a domain": Bad(
        {"awsAlarmEmail": "ops"}, "awsAlarmEmail", "not a valid address", "ops@example.com"
    ),
    "topic by name": Bad(
        {"awsAlarmTopic": "alarms"}, "awsAlarmTopic", "not a valid ARN of a topic", "arn:aws:sns:"
    ),
    "topic of another region": Bad(
        {"awsAlarmTopic": "arn:aws:sns:eu-west-1:123456789012:alarms"},
        "awsAlarmTopic",
        "not a valid ARN of a topic in eu-central-1",
        "arn:aws:sns:eu-central-1:",
    ),
    "a parameter with a unit that RDS does not take": Bad(
        {"postgresParameters": {"bgwriter_delay": "200ms"}},
        "postgresParameters",
        "bgwriter_delay is '200ms', but RDS accepts only numbers without a unit",
        "write a plain number",
    ),
    "a parameter with half a unit": Bad(
        {"postgresParameters": {"work_mem": "1.5GB"}},
        "postgresParameters",
        "work_mem is '1.5GB'",
        "number of kB",
    ),
    "a parameter that RDS keeps": Bad(
        {"postgresParameters": {"rds.force_ssl": "0"}}, "postgresParameters", "rds.force_ssl", "remove it"
    ),
}


def parse(**values: Any) -> StackSettings:
    return StackSettings.parse(AWS_STACK | values)


@promise("a bad setting is refused in one line that names it, before anything is changed")
def test_a_value_that_is_invalid_on_aws_is_refused_with_its_key_and_a_fix() -> None:
    for name, bad in BAD.items():
        with in_case(name):
            bad.assert_refused(**AWS_STACK)


def test_a_value_at_a_limit_is_accepted() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("region alone", {}),
        ("one node without failover", {"awsRedisNodes": 1, "awsRedisFailover": "false"}),
        ("least storage", {"awsPostgresStorage": "20GB", "awsPostgresMaxStorage": "22GB"}),
        ("smallest VPC of three zones", {"awsVpcCidr": "10.60.0.0/24"}),
        ("largest VPC", {"awsVpcCidr": "172.16.0.0/16"}),
        ("every connection", {"awsPostgresClass": "db.t4g.micro", "postgresMaxConnections": 112}),
        ("VPC of carrier-grade NAT", {"awsVpcCidr": "100.64.0.0/16"}),
        ("VPC for benchmarks", {"awsVpcCidr": "198.19.0.0/16"}),
        ("fewest connections", {"postgresMaxConnections": 65}),
        ("pools that fill the limit", {"awsAccessCount": 4, "accessPoolSize": 9}),
        ("existing VPC", EXISTING),
        ("existing VPC with its own way out", EXISTING | {"awsRouteTables": "", "awsVpcEndpoints": "false"}),
        ("snapshots", {"redisPersistence": "rdb"}),
        ("windows that touch", {"awsMaintenanceWindow": "sun:03:00-sun:04:00"}),
        (
            "more IOPS",
            {"awsPostgresStorage": "400GB", "awsPostgresMaxStorage": "500GB", "awsPostgresIops": 12000},
        ),
        ("insights of two years", {"awsInsightsDays": 731}),
        (
            "image by digest",
            {"awsAccessImage": f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/access@sha256:{'0' * 64}"},
        ),
    ]
    for name, values in cases:
        with in_case(name):
            parse(**values)


_CHANGED: dict[str, Any] = {"string": "else", "integer": 77, "object": {"a": "b"}}


def test_a_setting_of_the_other_target_is_refused_unless_it_is_the_default() -> None:
    cases: list[Any] = [s for s in StackSettings.declarations() if len(s.targets) == 1]
    for setting in cases:
        with in_case(setting):
            other = {"docker": AWS_STACK, "aws": {"target": "docker"}}
            (target,) = setting.targets
            changed = not setting.default if setting.type == "boolean" else _CHANGED[setting.type]
            StackSettings.parse(other[target] | {setting.key: setting.default})
            with pytest.raises(SettingError, match=f"only on {target}; remove it") as refusal:
                StackSettings.parse(other[target] | {setting.key: changed})
            assert refusal.value.key == f"groundwork:{setting.key}"


def test_the_target_is_parsed() -> None:
    assert parse().target == AWS


def test_the_documentation_names_only_settings_that_exist() -> None:
    known = {setting.key for setting in StackSettings.declarations()}
    for page in sorted((ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"`(?:groundwork:)?(aws[A-Z]\w+)\b[^`]*`", page.read_text()))
        assert named <= known, f"{page.name}: {sorted(named - known)}"

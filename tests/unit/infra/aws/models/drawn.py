"""Settings of a stack on AWS, drawn from what infra.settings allows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from infra.settings import StackSettings
from infra.spec import aws_sizes
from infra.spec.elasticache import ENGINES
from infra.spec.errors import SettingError
from infra.spec.redis import EVICTION_POLICIES
from tests.aws_outputs import ACCOUNT, REGION
from tests.unit.infra.aws.program import BACKUP_KEY, EXISTING_VPC, SETTINGS

# Setting -> values that a stack may have, at the ends of their ranges too. Some exclude one another.
_VALUES: dict[str, list[Any]] = {
    "awsRegion": [REGION, "us-east-1", "ap-southeast-4"],
    "awsZones": ["a,b", "a,b,c", "b,c,d,f"],
    "awsVpcCidr": ["10.60.0.0/16", "192.168.7.0/24", "172.16.0.0/20"],
    "awsPostgresClass": sorted(aws_sizes.DATABASE_CLASSES),
    "awsPostgresMultiAz": [True, False],
    "awsBackupRetentionDays": [7, 35],
    "awsPostgresSnapshot": ["", "groundwork-prod-final", "rds:groundwork-prod-2026-03-01-02-00"],
    "awsBackupCopyKey": ["", BACKUP_KEY],
    "awsBackupWindow": ["02:00-03:00", "23:30-00:30", "00:00-01:00"],
    "awsMaintenanceWindow": ["sun:03:30-sun:04:30", "sun:23:45-mon:23:30", "sat:05:00-sat:06:00"],
    "awsMinorUpgrades": [True, False],
    "awsMonitoringSeconds": sorted(aws_sizes.MONITORING_SECONDS),
    "awsInsightsDays": [7, 31, 465, 713, 731],
    "awsDatabaseInsights": ["standard", "advanced"],
    "awsRedisEngine": sorted(ENGINES),
    "awsRedisNodeType": sorted(aws_sizes.CACHE_NODES),
    "awsRedisNodes": [1, 2, 6],
    "awsRedisFailover": [True, False],
    "postgresReplicas": [0, 1, 5],
    "redisReplicas": [0, 2],
    "awsRedisReservedPercent": [25, 75],
    "awsRedisSnapshotDays": [1, 35],
    "awsAccessCount": [1, 2, 3, 100],
    "awsAccessArchitecture": ["amd64", "arm64"],
    "awsPermissionsBoundary": ["", "b", "a/" + "b" * 500],
    "awsLogRetentionDays": sorted(aws_sizes.LOG_RETENTION_DAYS),
    "awsAlarmEmail": ["", "ops@example.com"],
    "awsAlarmTopic": ["", f"arn:aws:sns:{REGION}:{ACCOUNT}:existing"],
    "protectData": [True, False],
    "redisEvictionPolicy": sorted(EVICTION_POLICIES),
    "redisPersistence": ["none", "rdb"],
    "accessPoolSize": [1, 8],
    "appConnectionLimit": [40, 300],
    "postgresMaxConnections": [65, 100, 400, 5000],
    "tokenKeys": ["k1", "k2,k1"],
    "postgresParameters": [{}, {"work_mem": "4MB"}, {"statement_timeout": "60s", "log_statement": "none"}],
}
# Values of several settings that belong together.
_STORAGES = [
    ("20GB", "22GB", 0, 0),
    ("50GB", "200GB", 0, 0),
    ("400GB", "65536GB", 12_000, 0),
    ("1000GB", "1100GB", 16_000, 4000),
]
_TASKS = [(cpu, f"{mib}MB") for cpu, sizes in aws_sizes.FARGATE.items() for mib in (sizes[0], sizes[-1])]
# The longest and the shortest name that AwsSite accepts.
STACKS = ["unit", "a", "a23456789-123456"]


@st.composite
def settings(draw: st.DrawFn) -> dict[str, Any]:
    """Return settings that StackSettings accepts: some settings with other values than their defaults."""
    storage = draw(st.sampled_from(_STORAGES))
    task = draw(st.sampled_from(_TASKS))
    found: dict[str, Any] = {
        "awsPostgresStorage": storage[0],
        "awsPostgresMaxStorage": storage[1],
        "awsPostgresIops": storage[2],
        "awsPostgresThroughput": storage[3],
        "awsAccessCpu": task[0],
        "awsAccessMemory": task[1],
    }
    if draw(st.booleans()):
        found |= EXISTING_VPC | {"awsRouteTables": "rtb-00000001"}
    found |= draw(st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in _VALUES.items()}))
    while not _is_accepted(found):
        pass
    return found


def _is_accepted(found: dict[str, Any]) -> bool:
    """Return whether the settings are valid. Otherwise remove the refused one, or the last if it was not drawn."""
    try:
        StackSettings.parse(SETTINGS | found)
    except SettingError as error:
        key = error.key.partition(":")[2]
        del found[key if key in found else list(found)[-1]]
        return False
    return True

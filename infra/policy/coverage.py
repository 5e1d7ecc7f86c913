"""That the rules know every kind of server of data which the stack makes."""

from __future__ import annotations

from collections.abc import Iterator

from infra.policy.example import made
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule

# They keep data, and none of the other rules looks at them.
UNRULED = (
    "aws:docdb/cluster:Cluster",
    "aws:dynamodb/table:Table",
    "aws:elasticache/cluster:Cluster",
    "aws:elasticache/serverlessCache:ServerlessCache",
    "aws:memorydb/cluster:Cluster",
    "aws:rds/cluster:Cluster",
    "aws:rds/clusterInstance:ClusterInstance",
)


@rule(
    "Groundwork.coverage",
    "Every server of data is one that the rules look at",
    Severity.MEDIUM,
    on=("aws:rds/instance:Instance", "aws:elasticache/replicationGroup:ReplicationGroup", *UNRULED),
    fix="use an RDS instance and an ElastiCache replication group, or write the rules",
    good=[made("aws:rds/instance:Instance", "postgres")],
    bad=[[made(UNRULED[0], "data")]],
    alone=True,
)
def known_kind(server: Resource, resources: Resources) -> Iterator[Problem]:
    if server.type in UNRULED:
        yield Problem("type", "is a server of data that no rule looks at")

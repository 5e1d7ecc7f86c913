"""A rule that reports data stores of a kind for which no rules exist."""

from __future__ import annotations

from collections.abc import Iterator

from infra.policy.example import made
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule

# Data stores that no other rule checks.
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
    "Every data store is of a kind that the rules check",
    Severity.MEDIUM,
    on=("aws:rds/instance:Instance", "aws:elasticache/replicationGroup:ReplicationGroup", *UNRULED),
    fix="use an RDS instance and an ElastiCache replication group, or write the rules",
    good=[made("aws:rds/instance:Instance", "postgres")],
    bad=[[made(UNRULED[0], "data")]],
    alone=True,
)
def known_kind(server: Resource, resources: Resources) -> Iterator[Problem]:
    if server.type in UNRULED:
        yield Problem("type", "is a data store that no rule checks")

"""What each setting is on the two targets."""

from __future__ import annotations

from infra.spec.parity.entry import (
    CLOUDWATCH,
    MANAGED,
    NONE,
    ONE_MACHINE,
    ONE_SERVER,
    PLACE,
    PORT,
    Parity,
    same,
)

# By the settings' keys; infra.settings imports the specification, so the test holds the two against one another.
SETTINGS: dict[str, Parity] = {
    "target": same("which of the two columns holds"),
    "protectData": Parity(
        "volumes are protected in Pulumi",
        "RDS, ElastiCache and KMS keys are protected in Pulumi; RDS has deletion protection besides",
        "Docker has no protection of its own",
    ),
    "postgresMaxConnections": Parity(
        "`max_connections`",
        "`max_connections`, at most what the instance class has room for",
        "RDS bounds it",
    ),
    "postgresParameters": Parity(
        "over the derived ones; fixed ones are refused",
        "the same, and what RDS sets itself is refused too",
        "RDS owns files, addresses, archiving and what keeps data whole",
    ),
    "migrationsFolder": Parity(
        "applied from here by `up`",
        "in the image of the task that applies them",
        "the database is in a subnet without a way in",
    ),
    "appConnectionLimit": same("CONNECTION LIMIT"),
    "readonlyConnectionLimit": same("CONNECTION LIMIT"),
    "monitorConnectionLimit": same("CONNECTION LIMIT"),
    "migratorConnectionLimit": same("CONNECTION LIMIT"),
    "redisEvictionPolicy": same("`maxmemory-policy`"),
    "redisPersistence": Parity(
        "none, rdb or aof",
        "none or rdb, as daily snapshots; aof is refused",
        "ElastiCache has no AOF from Redis 2.8.22 on",
    ),
    "accessPoolSize": same("the pool of each access service"),
    "tokenKeys": same("keys made by the program, secrets of the stack"),
    "networkSubnet": Parity("subnet of the data network", f"{NONE} `awsVpcCidr`", PLACE),
    "postgresPort": Parity("on 127.0.0.1, a free one by default", f"{NONE} 15432", PORT),
    "postgresMemory": Parity("limit of the container", f"{NONE} `awsPostgresClass`", ONE_MACHINE),
    "backups": Parity(
        "pgBackRest and WAL archiving, can be off",
        f"{NONE} always on",
        "RDS without backups has no point to restore to",
    ),
    "backupRetentionFull": Parity("full backups kept", f"{NONE} `awsBackupRetentionDays`", "RDS counts days"),
    "backupFullDays": Parity(
        "age of the next full one",
        f"{NONE} RDS decides",
        "RDS's snapshots are all whole, and stored as what changed",
    ),
    "backupQueueMax": Parity("WAL that may wait", f"{NONE}", "RDS archives WAL itself"),
    "redisPort": Parity("on 127.0.0.1, a free one by default", f"{NONE} 6379", PORT),
    "redisMemory": Parity("limit of the container", f"{NONE} `awsRedisNodeType`", ONE_MACHINE),
    "redisMaxmemory": Parity(
        "`maxmemory`, at most 75 % of the limit",
        f"{NONE} the node's memory less `awsRedisReservedPercent`",
        "ElastiCache fixes maxmemory by the node type",
    ),
    "redisMaxclients": Parity("`maxclients`", f"{NONE} 65000, of small nodes less", "ElastiCache fixes it"),
    "accessPort": Parity("on 127.0.0.1, a free one by default", f"{NONE} 8080, by a name in the VPC", PORT),
    "accessMemory": Parity("limit of the container", f"{NONE} `awsAccessMemory`", ONE_MACHINE),
    "monitoring": Parity(
        "Prometheus and exporters, can be on", f"{NONE} alarms and a dashboard, always", CLOUDWATCH
    ),
    "monitoringTargets": Parity("more that is scraped", NONE, CLOUDWATCH),
    "prometheusPort": Parity("on 127.0.0.1, a free one by default", NONE, CLOUDWATCH),
    "prometheusMemory": Parity("limit of the container", NONE, CLOUDWATCH),
    "prometheusRetention": Parity("how long metrics are kept", f"{NONE} CloudWatch's 15 months", CLOUDWATCH),
    "prometheusDisk": Parity("how much they may take", NONE, CLOUDWATCH),
    "logMaxSize": Parity(
        "when a container's log is rotated", f"{NONE} `awsLogRetentionDays`", "log groups keep by days"
    ),
    "logMaxFiles": Parity("how many are kept", f"{NONE} `awsLogRetentionDays`", "log groups keep by days"),
    "awsRegion": Parity(f"{NONE} this machine", "where everything is", PLACE),
    "awsZones": Parity(NONE, "zones of subnets, standby and replicas", PLACE),
    "awsVpcCidr": Parity(f"{NONE} `networkSubnet`", "addresses of the VPC", PLACE),
    "awsVpcId": Parity(NONE, "an existing VPC", PLACE),
    "awsPrivateSubnets": Parity(NONE, "its subnets for tasks", PLACE),
    "awsIsolatedSubnets": Parity(NONE, "its subnets for servers", PLACE),
    "awsRouteTables": Parity(NONE, "its route tables", PLACE),
    "awsVpcEndpoints": Parity(f"{NONE} no way out", "ways to AWS's own services, and no other", PLACE),
    "awsPostgresClass": Parity(f"{NONE} `postgresMemory`", "class of the instance", ONE_MACHINE),
    "awsPostgresStorage": Parity(
        f"{NONE} the machine's disk", "gp3", "a volume is as large as the disk below it"
    ),
    "awsPostgresMaxStorage": Parity(
        NONE, "how far RDS grows it by itself", "a volume is as large as the disk below it"
    ),
    "awsPostgresIops": Parity(NONE, "IOPS above the baseline", "a volume is as fast as the disk below it"),
    "awsPostgresMultiAz": Parity(NONE, "a standby in another zone", ONE_SERVER),
    "awsPostgresReplicas": Parity(NONE, "read replicas", ONE_SERVER),
    "awsBackupRetentionDays": Parity(
        f"{NONE} `backupRetentionFull`", "days that can be restored to", "RDS counts days"
    ),
    "awsBackupWindow": Parity(f"{NONE} when `groundwork backup` runs", "when snapshots are taken", MANAGED),
    "awsMaintenanceWindow": Parity(f"{NONE} when `up` runs", "when updates are applied", MANAGED),
    "awsMonitoringSeconds": Parity(f"{NONE} the exporters", "enhanced monitoring", CLOUDWATCH),
    "awsInsightsDays": Parity(f"{NONE} `groundwork report`", "Performance Insights", CLOUDWATCH),
    "awsRedisNodeType": Parity(f"{NONE} `redisMemory`", "type of each node", ONE_MACHINE),
    "awsRedisNodes": Parity(NONE, "primary and replicas", ONE_SERVER),
    "awsRedisFailover": Parity(NONE, "a replica takes over", ONE_SERVER),
    "awsRedisReservedPercent": Parity(
        f"{NONE} 25 % or more, by `redisMaxmemory`",
        "`reserved-memory-percent`",
        "two ways to say the same share",
    ),
    "awsRedisSnapshotDays": Parity(
        NONE, "days that snapshots are kept", "on Docker Redis is not backed up: it is a cache"
    ),
    "awsAccessCount": Parity(f"{NONE} one", "tasks of the access service", ONE_SERVER),
    "awsAccessCpu": Parity(NONE, "CPU units of a task", "Fargate asks for both CPU and memory"),
    "awsAccessMemory": Parity(f"{NONE} `accessMemory`", "memory of a task", ONE_MACHINE),
    "awsAccessArchitecture": Parity(f"{NONE} the machine's", "amd64 or arm64", "Fargate has both"),
    "awsAccessImage": Parity(
        f"{NONE} always built here", "one that is there already", "the runner that deploys may have no engine"
    ),
    "awsRdsCaFile": Parity(f"{NONE} the stack's own CA", "RDS's authorities", "RDS's certificates are AWS's"),
    "awsLogRetentionDays": Parity(
        f"{NONE} `logMaxSize`, `logMaxFiles`", "days that log groups keep", "log groups keep by days"
    ),
    "awsAlarmEmail": Parity(f"{NONE} Alertmanager's, not made here", "who is told of alarms", CLOUDWATCH),
    "awsAlarmTopic": Parity(NONE, "an SNS topic that there is", CLOUDWATCH),
}

"""The effect of each setting on the two targets."""

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

# By the settings' keys. infra.settings imports infra.spec, so a test, not this module, compares the keys.
SETTINGS: dict[str, Parity] = {
    "target": same("selects the column of this table"),
    "protectData": Parity(
        "volumes are protected in Pulumi",
        "RDS, ElastiCache and KMS keys are protected in Pulumi; RDS also has deletion protection",
        "Docker has no deletion protection",
    ),
    "postgresMaxConnections": Parity(
        "`max_connections`",
        "`max_connections`, limited by the memory of the instance class",
        "RDS limits it",
    ),
    "postgresReplicas": Parity(
        "0 or 2, in containers; commits wait for one of them, and each can take over",
        "0 to 5 read replicas, asynchronous; `awsPostgresMultiAz` takes over",
        "RDS's standby cannot be read, and RDS promotes no read replica automatically",
    ),
    "postgresParameters": Parity(
        "overrides derived parameters; fixed ones are refused",
        "the same; parameters that RDS sets itself are refused too",
        "RDS manages files, addresses, archiving and data integrity",
    ),
    "migrationsFolder": Parity(
        "applied from this machine by `up`",
        "in the image of the task that applies them",
        "the database cannot be reached from outside the VPC",
    ),
    "appConnectionLimit": same("CONNECTION LIMIT"),
    "readonlyConnectionLimit": same("CONNECTION LIMIT"),
    "monitorConnectionLimit": same("CONNECTION LIMIT"),
    "migratorConnectionLimit": same("CONNECTION LIMIT"),
    "redisReplicas": Parity(
        "0, or 2 with three Sentinels; a primary without a replica stops writing",
        "0, or 2: at least three nodes; a primary without a replica stops writing; `awsRedisFailover` takes over",
        "ElastiCache itself replaces a primary that fails",
    ),
    "redisEvictionPolicy": same("`maxmemory-policy`"),
    "redisPersistence": Parity(
        "none, rdb or aof",
        "none or rdb, as daily snapshots; aof is refused",
        "ElastiCache does not support AOF since Redis 2.8.22",
    ),
    "accessPoolSize": same("the pool of each access service"),
    "tokenKeys": same("the program creates the keys, as secrets of the stack"),
    "imageRefresh": same("a new value rebuilds every image that the program builds"),
    "networkSubnet": Parity("subnet of the data network", f"{NONE} `awsVpcCidr`", PLACE),
    "postgresPort": Parity("on 127.0.0.1, a free one by default", f"{NONE} 15432", PORT),
    "postgresMemory": Parity("limit of the container", f"{NONE} `awsPostgresClass`", ONE_MACHINE),
    "backups": Parity(
        "pgBackRest and WAL archiving, can be turned off",
        f"{NONE} always on",
        "without backups, RDS cannot be restored",
    ),
    "backupRetentionFull": Parity(
        "number of full backups", f"{NONE} `awsBackupRetentionDays`", "RDS counts days"
    ),
    "backupFullDays": Parity(
        "days between full backups",
        f"{NONE} RDS decides",
        "every RDS snapshot is complete, and stored incrementally",
    ),
    "backupQueueMax": Parity("limit of waiting WAL", f"{NONE}", "RDS archives WAL itself"),
    "redisPort": Parity("on 127.0.0.1, a free one by default", f"{NONE} 6379", PORT),
    "redisMemory": Parity("limit of the container", f"{NONE} `awsRedisNodeType`", ONE_MACHINE),
    "redisMaxmemory": Parity(
        "`maxmemory`, at most 75 % of the limit",
        f"{NONE} the node's memory minus `awsRedisReservedPercent`",
        "on ElastiCache, maxmemory follows from the node type",
    ),
    "redisMaxclients": Parity("`maxclients`", f"{NONE} 65000, fewer on small nodes", "fixed by ElastiCache"),
    "accessPort": Parity(
        "on 127.0.0.1, a free one by default", f"{NONE} 8080, with a DNS name in the VPC", PORT
    ),
    "accessMemory": Parity("limit of the container", f"{NONE} `awsAccessMemory`", ONE_MACHINE),
    "monitoring": Parity(
        "Prometheus and exporters, can be turned on", f"{NONE} always alarms and a dashboard", CLOUDWATCH
    ),
    "monitoringTargets": Parity("additional targets for Prometheus", NONE, CLOUDWATCH),
    "prometheusPort": Parity("on 127.0.0.1, a free one by default", NONE, CLOUDWATCH),
    "prometheusMemory": Parity("limit of the container", NONE, CLOUDWATCH),
    "prometheusRetention": Parity("how long metrics are kept", f"{NONE} CloudWatch's 15 months", CLOUDWATCH),
    "prometheusDisk": Parity("limit of disk space for metrics", NONE, CLOUDWATCH),
    "allowChaos": Parity(
        "lets `groundwork chaos` break servers", NONE, "it breaks containers of this machine"
    ),
    "logMaxSize": Parity(
        "size at which a container's log is rotated",
        f"{NONE} `awsLogRetentionDays`",
        "log groups have a retention in days",
    ),
    "logMaxFiles": Parity(
        "number of log files", f"{NONE} `awsLogRetentionDays`", "log groups have a retention in days"
    ),
    "awsRegion": Parity(f"{NONE} this machine", "region of all resources", PLACE),
    "awsZones": Parity(NONE, "zones of subnets, standby and replicas", PLACE),
    "awsVpcCidr": Parity(f"{NONE} `networkSubnet`", "CIDR of the new VPC", PLACE),
    "awsVpcId": Parity(NONE, "an existing VPC", PLACE),
    "awsPrivateSubnets": Parity(NONE, "its subnets for tasks", PLACE),
    "awsIsolatedSubnets": Parity(NONE, "its subnets for servers", PLACE),
    "awsRouteTables": Parity(NONE, "its route tables", PLACE),
    "awsVpcEndpoints": Parity(f"{NONE} no egress", "access to AWS's services, and to nothing else", PLACE),
    "awsPostgresClass": Parity(f"{NONE} `postgresMemory`", "class of the instance", ONE_MACHINE),
    "awsPostgresStorage": Parity(
        f"{NONE} the machine's disk", "gp3", "a volume is as large as the disk below it"
    ),
    "awsPostgresMaxStorage": Parity(
        NONE, "limit of its automatic growth", "a volume is as large as the disk below it"
    ),
    "awsPostgresIops": Parity(NONE, "IOPS above the baseline", "a volume is as fast as the disk below it"),
    "awsPostgresThroughput": Parity(
        NONE, "throughput above the baseline", "a volume is as fast as the disk below it"
    ),
    "awsPostgresMultiAz": Parity(NONE, "a standby in another zone", ONE_SERVER),
    "awsPostgresSnapshot": Parity(
        f"{NONE} `groundwork restore` restores a lost volume",
        "the snapshot from which the instance is created",
        "RDS restores only into new instances",
    ),
    "awsBackupRetentionDays": Parity(
        f"{NONE} `backupRetentionFull`", "days for which backups are kept", "RDS counts days"
    ),
    "awsBackupCopyKey": Parity(
        f"{NONE} copy the repository's volume",
        "backups are copied to the key's region",
        "a local repository has no region",
    ),
    "awsBackupWindow": Parity(f"{NONE} when `groundwork backup` runs", "when snapshots are taken", MANAGED),
    "awsMaintenanceWindow": Parity(f"{NONE} when `up` runs", "when updates are applied", MANAGED),
    "awsMinorUpgrades": Parity(
        f"{NONE} when the images are built again", "installed in the maintenance window, or by you", MANAGED
    ),
    "awsMonitoringSeconds": Parity(f"{NONE} the exporters", "enhanced monitoring", CLOUDWATCH),
    "awsInsightsDays": Parity(f"{NONE} `groundwork report`", "history of Database Insights", CLOUDWATCH),
    "awsDatabaseInsights": Parity(f"{NONE} `groundwork report`", "mode of Database Insights", CLOUDWATCH),
    "awsRedisEngine": Parity(
        f"{NONE} Redis 7.0", "Redis or Valkey, and the version", "the containers run what Debian 12 has"
    ),
    "awsRedisNodeType": Parity(f"{NONE} `redisMemory`", "type of each node", ONE_MACHINE),
    "awsRedisNodes": Parity(f"{NONE} `redisReplicas`", "primary and replicas, also without a fence", MANAGED),
    "awsRedisFailover": Parity(NONE, "a replica takes over", ONE_SERVER),
    "awsRedisReservedPercent": Parity(
        f"{NONE} 25 % or more, by `redisMaxmemory`",
        "`reserved-memory-percent`",
        "two ways to configure the same share",
    ),
    "awsRedisSnapshotDays": Parity(
        NONE, "days for which snapshots are kept", "Redis is a cache, and not backed up on Docker"
    ),
    "awsAccessCount": Parity(f"{NONE} one", "tasks of the access service", ONE_SERVER),
    "awsAccessCpu": Parity(NONE, "CPU units of a task", "Fargate requires both CPU and memory"),
    "awsAccessMemory": Parity(f"{NONE} `accessMemory`", "memory of a task", ONE_MACHINE),
    "awsAccessArchitecture": Parity(f"{NONE} the machine's", "amd64 or arm64", "Fargate offers both"),
    "awsAccessImage": Parity(
        f"{NONE} always built here", "an existing image", "a CI runner may have no Docker engine"
    ),
    "awsPermissionsBoundary": Parity(NONE, "the limit of every role", "only AWS has IAM roles"),
    "awsRdsCaFile": Parity(
        f"{NONE} the stack's own CA", "RDS's authorities", "AWS issues RDS's certificates"
    ),
    "awsLogRetentionDays": Parity(
        f"{NONE} `logMaxSize`, `logMaxFiles`",
        "days for which logs are kept",
        "log groups have a retention in days",
    ),
    "awsAlarmEmail": Parity(
        f"{NONE} Alertmanager's, which groundwork does not run", "recipient of alarms", CLOUDWATCH
    ),
    "awsAlarmTopic": Parity(NONE, "an existing SNS topic", CLOUDWATCH),
}

"""What security and operations rest on beside parameters, on the two targets."""

from __future__ import annotations

from infra.spec import elasticache
from infra.spec.parity.entry import ONE_SERVER, PLACE, Parity, same
from infra.spec.redis_acl import LOCAL_USERS, USERS

# What security and operations rest on, beside parameters.
PROPERTIES: dict[str, Parity] = {
    "Postgres's version": Parity("15, Debian's", "15, RDS's newest", "RDS updates minor versions by itself"),
    "Redis's version": Parity(
        "7.0, Debian's",
        "7.1",
        "ElastiCache's newest of the open-source Redis; nothing here needs more than 7.0",
    ),
    "TLS": same("1.2 and newer, required; clients check CA and host name"),
    "authority of certificates": Parity(
        "the stack's own, rotated by `groundwork rotate`",
        "AWS's, rotated by AWS",
        "certificates of managed servers are AWS's",
    ),
    "logging in to Postgres": Parity(
        "SCRAM, passwords in two logins by turns",
        "IAM tokens of 15 minutes",
        "there are no passwords to rotate where IAM is",
    ),
    "logging in to Redis": Parity(
        "passwords by SHA-256 in the aclfile",
        "IAM tokens of 15 minutes",
        "there are no passwords to rotate where IAM is",
    ),
    "roles of Postgres and their grants": same(
        "owner, migrator, app, readonly, monitor; from `infra/spec/roles.py`"
    ),
    "administration of Postgres": Parity(
        "superuser, over the local socket only",
        "`groundwork_admin`, with a password that RDS keeps and rotates",
        "RDS gives nobody superuser",
    ),
    "pg_hba.conf": Parity(
        "logins, database, TLS, the data network",
        "security group and `rds.force_ssl`",
        "RDS has no pg_hba.conf of ours",
    ),
    "COPY from programs and files": Parity(
        "denied: no role has it", "not there", "RDS gives nobody the file system"
    ),
    "pg_read_file and the like": Parity(
        "denied: no role has it", "not there", "RDS gives nobody the file system"
    ),
    "extensions": Parity(
        "pg_stat_statements; none by roles", "the same; those that RDS allows", "RDS has a list"
    ),
    "data checksums": Parity("on, verified by drills", "as RDS has it", "RDS makes the cluster"),
    "Postgres's log files": Parity("the container's log", "CloudWatch Logs", "nobody gets onto the instance"),
    "users of Redis and their rules": Parity(
        f"{', '.join(user.name for user in LOCAL_USERS)}; `default` off",
        f"{', '.join(user.name for user in USERS)}; `default` off",
        "rotator has the container take up changed files; ElastiCache has no files",
    ),
    "commands of user ops": Parity(
        "as `infra/spec/redis_acl.py` says",
        f"the same less {', '.join(f'`{c}`' for c in sorted(elasticache.RESTRICTED_COMMANDS))}",
        "ElastiCache keeps them for itself: no CONFIG, no ACL LOAD; effective settings are read from its API",
    ),
    "categories in ACL rules": same("none but `-@all`: what a category holds differs between versions"),
    "`client|setinfo`": same(
        "named by no rule, and sent by no client: it came with 7.2, and stops a 7.0 server"
    ),
    "eviction": same("`redisEvictionPolicy`, with a quarter of the memory or more kept free of data"),
    "a restart of Redis": Parity(
        "keeps what `redisPersistence` says", "a replica takes over with all of it", ONE_SERVER
    ),
    "network": Parity(
        "one network without a way out; ports on 127.0.0.1",
        "isolated subnets without a route out; security groups",
        PLACE,
    ),
    "who reaches the servers": Parity("this machine", "who wears the application's security group", PLACE),
    "backups of Postgres": Parity(
        "pgBackRest, WAL every 30 s, on the same machine",
        "snapshots and WAL every 5 minutes, in S3",
        "RDS has no place for pgBackRest",
    ),
    "restore to a moment": Parity(
        "into the same server", "into a new instance, then switched", "RDS restores into new instances only"
    ),
    "drill": Parity(
        "every file's checksum, amcheck, the application's reads",
        "a restored instance, and the application's reads",
        "nobody reads RDS's repository",
    ),
    "encryption at rest": Parity(
        "backups; the disk is the machine's affair",
        "KMS, one key for each kind of data",
        "a container does not encrypt the disk below it",
    ),
    "secrets": Parity(
        "files, 0400, in a volume of their own",
        "Secrets Manager, and IAM in place of most",
        "tasks take secrets from there",
    ),
    "Pulumi's state": Parity(
        "on this machine, encrypted by a passphrase",
        "S3, encrypted by KMS",
        "more than one person works on it",
    ),
    "container hardening": same("no root, no capabilities, read-only root file system, bounded memory"),
    "metrics of the access service": same("`/metrics`, Prometheus's text"),
    "alerts": Parity(
        "Prometheus's rules",
        "CloudWatch's alarms, on what AWS measures",
        "servers' own statistics are not in CloudWatch",
    ),
    "migrations": Parity(
        "by `up`, from this machine",
        "by `up`, in a task in the VPC",
        "the database is in a subnet without a way in",
    ),
}

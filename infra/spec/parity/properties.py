"""Properties other than settings and parameters that matter for security and operations, on the two targets."""

from __future__ import annotations

from infra.spec import elasticache
from infra.spec.parity.entry import NONE, ONE_SERVER, PLACE, Parity, same
from infra.spec.redis_acl import LOCAL_USERS, USERS

PROPERTIES: dict[str, Parity] = {
    "Postgres's version": Parity(
        "15, from Debian", "15, RDS's newest", "RDS upgrades minor versions automatically"
    ),
    "reading from replicas": Parity(
        "`DATABASE_READ_URL` with all servers",
        "`DATABASE_READ_URL` with the replicas, and the instance last",
        "RDS has no common endpoint for the replicas of an instance",
    ),
    "Redis's version": Parity(
        "7.0, from Debian",
        "7.1, or Valkey 7.2 or 8.2 (`awsRedisEngine`)",
        "the newest versions that ElastiCache has in each line; groundwork needs only 7.0",
    ),
    "Redis without servers to size": Parity(
        NONE,
        f"{NONE} ElastiCache Serverless refuses `CLIENT TRACKING`, and scripts whose keys are in several hash slots",
        "the near cache and the leases need both ([ADR 0046](adr/0046-valkey-and-serverless.md))",
    ),
    "TLS": same("1.2 and newer, required; clients verify CA and host name"),
    "certificate authority": Parity(
        "the stack's own, rotated by `groundwork rotate`",
        "AWS's, rotated by AWS",
        "AWS issues the certificates of managed servers",
    ),
    "logging in to Postgres": Parity(
        "SCRAM, with two logins that alternate at rotations",
        "IAM tokens, valid for 15 minutes",
        "IAM needs no passwords, so there is nothing to rotate",
    ),
    "logging in to Redis": Parity(
        "passwords, as SHA-256 in the ACL file",
        "IAM tokens, valid for 15 minutes",
        "IAM needs no passwords, so there is nothing to rotate",
    ),
    "Postgres roles and their grants": same(
        "owner, migrator, app, readonly, monitor; from `infra/spec/roles.py`"
    ),
    "administration of Postgres": Parity(
        "superuser, over the local socket only",
        "`groundwork_admin`, with a password that RDS stores and rotates",
        "RDS does not give superuser access",
    ),
    "pg_hba.conf": Parity(
        "logins, database, TLS, the data network",
        "security group and `rds.force_ssl`",
        "pg_hba.conf cannot be changed on RDS",
    ),
    "limit of temporary files": Parity(
        "of each role, in `infra/spec/roles.py`",
        "none, unless `postgresParameters` sets `temp_file_limit` for all roles",
        "only a superuser may set it for a role, and migrations need more than readers",
    ),
    "functions that PUBLIC has lost": Parity(
        "large objects, WAL messages, advisory locks, pg_export_snapshot",
        "none",
        "only a superuser may revoke functions of the server",
    ),
    "COPY from programs and files": Parity(
        "denied: no role may do it", "not available", "RDS does not give access to the file system"
    ),
    "pg_read_file and similar functions": Parity(
        "denied: no role may call them", "not available", "RDS does not give access to the file system"
    ),
    "extensions": Parity(
        "pg_stat_statements; roles cannot create any",
        "the same, limited to extensions that RDS supports",
        "RDS has a list of supported extensions",
    ),
    "data checksums": Parity("on, verified by drills", "as set by RDS", "RDS creates the cluster"),
    "Postgres log": Parity(
        "the container's log", "CloudWatch Logs", "RDS does not give access to the file system"
    ),
    "Redis users and their rules": Parity(
        f"{', '.join(user.name for user in LOCAL_USERS)}; `default` off",
        f"{', '.join(user.name for user in USERS)}; `default` off",
        "rotator makes the container reload changed files; ElastiCache has no files",
    ),
    "commands of user ops": Parity(
        "as in `infra/spec/redis_acl.py`",
        f"the same without {', '.join(f'`{c}`' for c in sorted(elasticache.RESTRICTED_COMMANDS))}",
        "ElastiCache does not allow CONFIG and ACL LOAD; its API returns the effective settings",
    ),
    "categories in ACL rules": same("only `-@all`, because categories differ between versions"),
    "`client|setinfo`": same(
        "not in any rule, and not sent by clients: it exists since 7.2, and a rule with it stops a 7.0 server"
    ),
    "eviction": same("`redisEvictionPolicy`, with at least a quarter of the memory reserved"),
    "a restart of Redis": Parity(
        "keeps data as configured by `redisPersistence`", "a replica takes over with all data", ONE_SERVER
    ),
    "network": Parity(
        "one network without egress; ports on 127.0.0.1",
        "isolated subnets without a route to the internet; security groups",
        PLACE,
    ),
    "clients that can reach the servers": Parity(
        "programs on this machine", "members of the application's security group", PLACE
    ),
    "backups of Postgres": Parity(
        "pgBackRest, WAL every 30 s, on the same machine",
        "snapshots and WAL every 5 minutes, in S3",
        "pgBackRest cannot run on RDS",
    ),
    "restore to a point in time": Parity(
        "into the same server",
        "into a new instance, which `--adopt` makes the stack's",
        "RDS restores only into new instances",
    ),
    "restore drill": Parity(
        "every file's checksum, amcheck, the application's reads",
        "a restored instance, and the application's reads",
        "RDS's backups cannot be read directly",
    ),
    "encryption at rest": Parity(
        "backups; the machine's disk is not encrypted by groundwork",
        "KMS, one key for each kind of data",
        "a container cannot encrypt the disk below it",
    ),
    "secrets": Parity(
        "files with mode 0400, in a separate volume",
        "Secrets Manager; IAM replaces most secrets",
        "ECS tasks get secrets from there",
    ),
    "Pulumi's state": Parity(
        "on this machine, encrypted with a passphrase",
        "S3, encrypted with KMS",
        "several people share it",
    ),
    "container hardening": same("no root, no capabilities, read-only root file system, memory limit"),
    "metrics of the access service": same("`/metrics`, in Prometheus's text format"),
    "alerts": Parity(
        "Prometheus rules",
        "CloudWatch alarms on AWS's metrics, and on lines of the logs",
        "the servers' own statistics are not in CloudWatch",
    ),
    "migrations": Parity(
        "by `up`, from this machine",
        "by `up`, in a task in the VPC",
        "the database cannot be reached from outside the VPC",
    ),
}

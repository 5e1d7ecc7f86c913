"""Roles and migrations on AWS. A task inside the VPC applies them, because the database cannot be reached from outside.

See docs/adr/0015 for the reasons.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pulumi
import pulumi_aws as aws
from pulumi import dynamic

from infra.aws.cluster import Cluster, Task
from infra.aws.postgres import Postgres
from infra.aws.site import AwsSite
from infra.dynamic import Provider
from infra.spec import rds, roles


@dataclass(frozen=True)
class BootstrapArgs:
    site: AwsSite
    cluster: Cluster
    postgres: Postgres
    database_url: pulumi.Input[str]
    migrator_policy: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    security_group: pulumi.Input[str]
    migrations_folder: Path
    starts_after: Sequence[pulumi.Resource]


class Bootstrap(pulumi.ComponentResource):
    """The database with its roles, and the schema at `version`."""

    version: pulumi.Output[int]

    def __init__(self, name: str, args: BootstrapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        from db.migrator import read_source, short_checksums

        super().__init__("groundwork:aws:Bootstrap", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        site, settings = args.site, args.site.settings
        secret = aws.iam.Policy(
            "admin-secret",
            name=site.name("admin-secret"),
            description=f"Read the password of the administrator of {site.name()}",
            policy=pulumi.Output.all(args.postgres.admin_secret, args.postgres.key.arn).apply(
                lambda arns: _secret_policy(arns[0], arns[1], site.region)
            ),
            tags=site.tags("admin-secret"),
            opts=child,
        )
        migrations = read_source(args.migrations_folder)
        checksums = short_checksums(migrations)
        newest = migrations[-1].name if migrations else rds.NO_MIGRATION
        definition = args.cluster.define(
            Task(
                name="bootstrap",
                # An option and not a variable, which an image without this check would ignore.
                command=["bootstrap", "--expect", f"{rds.migrations_digest(checksums)}:{newest}"],
                environment={
                    "DATABASE_URL": args.database_url,
                    "GROUNDWORK_DATABASE_LOGIN": "iam",
                    "GROUNDWORK_ADMIN_SECRET": args.postgres.admin_secret,
                    "GROUNDWORK_CONNECTION_LIMITS": json.dumps(settings.connection_limits, sort_keys=True),
                    "AWS_REGION": site.region,
                },
                policies=[secret.arn, args.migrator_policy],
            ),
            self,
        )
        run = TaskRun(
            "bootstrap",
            region=site.region,
            cluster=args.cluster.arn,
            task_definition=definition.arn,
            container="bootstrap",
            subnets=args.subnets,
            security_groups=[args.security_group],
            log_group=args.cluster.log_groups["bootstrap"].name,
            database=args.postgres.resource_id,
            migrations=checksums,
            version=migrations[-1].version if migrations else 0,
            specification=specification_digest(),
            opts=pulumi.ResourceOptions.merge(
                child, pulumi.ResourceOptions(depends_on=list(args.starts_after))
            ),
        )
        self.version = run.version
        self.run = run
        self.register_outputs({"version": self.version})


class TaskRunProvider(Provider):
    """Starts a task and waits until it exits. A failed task fails the `up`, with the last lines of its log."""

    # A change of the place where the task runs does not run it again.
    ignored: ClassVar[frozenset[str]] = frozenset(
        {"region", "cluster", "subnets", "security_groups", "log_group"}
    )

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        task = self._run(props)
        return dynamic.CreateResult(
            id_=f"{props['container']}-{props['database']}", outs={**props, "task": task}
        )

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        return dynamic.UpdateResult(outs={**_news, "task": self._run(_news)})

    @staticmethod
    def _run(props: dict[str, Any]) -> str:
        from infra.aws.task_run import run_to_end

        return run_to_end(
            region=props["region"],
            cluster=props["cluster"],
            task_definition=props["task_definition"],
            container=props["container"],
            subnets=list(props["subnets"]),
            security_groups=list(props["security_groups"]),
            log_group=props["log_group"],
        )


class TaskRun(dynamic.Resource, module="aws", name="TaskRun"):
    """A task that has run and exited. `task` is its ARN, and `version` is the version of the newest migration.

    A preview shows pending migrations as changes of `migrations` (name -> checksum).
    """

    version: pulumi.Output[int]
    task: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cluster: pulumi.Input[str],
        task_definition: pulumi.Input[str],
        container: str,
        subnets: Sequence[pulumi.Input[str]],
        security_groups: Sequence[pulumi.Input[str]],
        log_group: pulumi.Input[str],
        database: pulumi.Input[str],
        migrations: dict[str, str],
        version: int,
        specification: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "region": region,
            "cluster": cluster,
            "task_definition": task_definition,
            "container": container,
            "subnets": list(subnets),
            "security_groups": list(security_groups),
            "log_group": log_group,
            "database": database,
            "migrations": migrations,
            "specification": specification,
            "version": version,
            "task": None,
        }
        super().__init__(TaskRunProvider(), name, props, opts)


def specification_digest() -> str:
    """Return a digest of the SQL for roles, database and grants."""
    import hashlib

    limits = dict.fromkeys(roles.LOGINS, 0)
    text = (
        roles.managed_roles_sql(limits, rds.IAM_ROLE)
        + roles.managed_database_sql("C")
        + roles.managed_grants_sql()
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _secret_policy(secret: str, key: str, region: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret},
                {
                    "Effect": "Allow",
                    "Action": "kms:Decrypt",
                    "Resource": key,
                    "Condition": {
                        "StringLike": {"kms:ViaService": f"secretsmanager.{region}.amazonaws.com*"}
                    },
                },
            ],
        }
    )

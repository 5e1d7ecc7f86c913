"""The IAM policies for logging in: one for each role. There are no passwords.

Attach a role's policy to the IAM role of a client. The client can then log in with tokens as that role in Postgres and
Redis, on the servers of this stack only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.site import AwsSite
from infra.outputs import ROLES
from infra.spec.roles import LOGINS


@dataclass(frozen=True)
class LoginsArgs:
    site: AwsSite
    # Of the Postgres primary and its replicas.
    resource_ids: Sequence[pulumi.Input[str]]
    replication_group: pulumi.Input[str]
    # User name in infra.spec.redis_acl -> user id in ElastiCache.
    redis_users: Mapping[str, str]


class Logins(pulumi.ComponentResource):
    """The login policies of all roles."""

    # Role -> ARN of its policy.
    policies: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: LoginsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Logins", name, None, opts)
        self.policies = {role: self._policy(args, role) for role in ROLES}
        self.register_outputs({"policies": self.policies})

    def _policy(self, args: LoginsArgs, role: str) -> pulumi.Output[str]:
        site = args.site
        login, user = ROLES[role]
        statements: list[pulumi.Input[dict[str, object]]] = []
        if login:
            users = [
                site.arn("rds-db", pulumi.Output.format("dbuser:{0}/{1}", resource_id, each.name))
                for resource_id in args.resource_ids
                for each in LOGINS[login]
            ]
            statements.append(_allow("rds-db:connect", users))
        if user:
            statements.append(
                _allow(
                    "elasticache:Connect",
                    [
                        site.arn(
                            "elasticache",
                            pulumi.Output.format("replicationgroup:{0}", args.replication_group),
                        ),
                        site.arn("elasticache", f"user:{args.redis_users[user]}"),
                    ],
                )
            )
        policy = aws.iam.Policy(
            f"login-{role}",
            name=site.name(f"login-{role}"),
            description=f"Log in to Postgres and Redis of {site.name()} as {role}",
            policy=pulumi.Output.all(*statements).apply(
                lambda every: json.dumps({"Version": "2012-10-17", "Statement": every})
            ),
            tags=site.tags(f"login-{role}"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return policy.arn


def _allow(action: str, resources: Sequence[pulumi.Output[str]]) -> pulumi.Output[dict[str, object]]:
    return pulumi.Output.all(*resources).apply(
        lambda arns: {"Effect": "Allow", "Action": action, "Resource": arns}
    )

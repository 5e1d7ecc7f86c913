"""The stack's KMS keys, rotated every year: one per kind of data, so that access can be granted separately."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.site import AwsSite

# AWS deletes a key only after this waiting period, because the data that it encrypts is lost with it.
_DELETION_DAYS = 30


@dataclass(frozen=True)
class KeyArgs:
    site: AwsSite
    description: str
    # Services that use the key themselves and not on behalf of a user, such as logs.eu-central-1.amazonaws.com.
    services: Sequence[str] = ()


class EncryptionKey(pulumi.ComponentResource):
    """A key with an alias. The account's IAM policies and `services` may use it."""

    arn: pulumi.Output[str]
    # Resources whose service uses the key must depend on it, because it includes the key policy.
    key: aws.kms.Key

    def __init__(self, name: str, args: KeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:EncryptionKey", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        site = args.site
        self.key = aws.kms.Key(
            name,
            description=args.description,
            enable_key_rotation=True,
            deletion_window_in_days=_DELETION_DAYS,
            policy=pulumi.Output.all(site.account, site.partition).apply(
                lambda known: key_policy(known[0], known[1], args.services)
            ),
            tags=site.tags(name),
            opts=pulumi.ResourceOptions.merge(
                child, pulumi.ResourceOptions(protect=site.settings.protect_data)
            ),
        )
        aws.kms.Alias(name, name=f"alias/{site.name(name)}", target_key_id=self.key.key_id, opts=child)
        self.arn = self.key.arn
        self.register_outputs({"arn": self.arn})


def key_policy(account: str, partition: str, services: Sequence[str]) -> str:
    """Return a key policy that delegates to the account's IAM policies, and allows services for this account only."""
    statements: list[dict[str, Any]] = [
        {
            "Sid": "AccountByItsPolicies",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    for service in services:
        # CloudWatch Logs passes the account only in the encryption context.
        condition = (
            {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:{partition}:logs:*:{account}:*"}}
            if service.startswith("logs.")
            else {"StringEquals": {"aws:SourceAccount": account}}
        )
        statements.append(
            {
                "Sid": "Service" + "".join(part.capitalize() for part in service.split(".")[0].split("-")),
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": [
                    "kms:Encrypt*",
                    "kms:Decrypt*",
                    "kms:ReEncrypt*",
                    "kms:GenerateDataKey*",
                    "kms:Describe*",
                ],
                "Resource": "*",
                "Condition": condition,
            }
        )
    return json.dumps({"Version": "2012-10-17", "Statement": statements})

"""KMS keys of the stack's own, rotated every year: one for each kind of data, so that access to one gives no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.site import Site

# A key that is gone takes the data with it; AWS waits this long.
_DELETION_DAYS = 30


@dataclass(frozen=True)
class KeyArgs:
    site: Site
    description: str
    # Services that use the key themselves, in no user's name: like logs.eu-central-1.amazonaws.com.
    services: Sequence[str] = ()


class EncryptionKey(pulumi.ComponentResource):
    """A key with an alias; the account's own policies say who may use it, and `services` besides."""

    arn: pulumi.Output[str]
    # Of its policy: whoever needs the service to be allowed waits for it.
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
    """The account decides by its own policies; a service acts for this account only."""
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
        # CloudWatch Logs names the account in the encryption context alone.
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

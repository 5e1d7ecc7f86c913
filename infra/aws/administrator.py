"""The administrator of Postgres: RDS keeps the password, or, with read replicas, the stack does.

RDS makes no replica of an instance whose administrator's password it keeps itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.site import Site
from infra.credentials import Password
from infra.spec import rds

# To be had back for so long after it was deleted.
_RECOVERY_DAYS = 30
# Counted up, it makes AWS take the value again, which it never shows.
_VERSION = 1


@dataclass(frozen=True)
class Administrator:
    """`properties` of the instance; `kept` is the ARN of the stack's own secret, where it has one."""

    properties: dict[str, Any]
    kept: pulumi.Output[str] | None = None

    @classmethod
    def of_rds(cls, key: EncryptionKey) -> Administrator:
        """Whose password RDS makes, keeps and rotates."""
        return cls(
            {
                "username": rds.ADMIN,
                "manage_master_user_password": True,
                "master_user_secret_kms_key_id": key.arn,
            }
        )

    @classmethod
    def of_the_stack(cls, site: Site, key: EncryptionKey, child: pulumi.ResourceOptions) -> Administrator:
        """Whose password is made here and kept in the form that RDS keeps its own in. Nothing rotates it."""
        password = Password("postgres-admin", child).value
        secret = aws.secretsmanager.Secret(
            "postgres-admin",
            # What AWS adds to it lets a stack be made anew while the old one's secret waits for its end.
            name_prefix=site.name("postgres-admin-"),
            description=f"The administrator of Postgres of {site.name()}",
            kms_key_id=key.arn,
            recovery_window_in_days=_RECOVERY_DAYS,
            tags=site.tags("postgres-admin"),
            opts=child,
        )
        # Write-only: neither value is read back, so that a preview needs no right to read a password.
        version = aws.secretsmanager.SecretVersion(
            "postgres-admin",
            secret_id=secret.id,
            secret_string_wo=password.apply(
                lambda value: json.dumps({"username": rds.ADMIN, "password": value})
            ),
            secret_string_wo_version=_VERSION,
            opts=child,
        )
        return cls(
            {"username": rds.ADMIN, "password_wo": password, "password_wo_version": _VERSION},
            version.secret_arn,
        )

    def secret(self, primary: aws.rds.Instance) -> pulumi.Output[str]:
        """The ARN of what holds the password."""
        if self.kept is not None:
            return self.kept
        return primary.master_user_secrets.apply(lambda secrets: secrets[0].secret_arn or "")

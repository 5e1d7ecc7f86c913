"""The Postgres administrator. RDS stores the password or, with read replicas, the stack does.

RDS cannot create a replica of an instance if it stores the administrator's password itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.site import AwsSite
from infra.credentials import Password
from infra.spec import rds

# A deleted secret can be restored for this long.
_RECOVERY_DAYS = 30
# Increase this number to write the password again. Pulumi cannot compare it, because AWS never returns it.
_VERSION = 1


@dataclass(frozen=True)
class Administrator:
    """The administrator: `properties` for the RDS instance, and `kept`, the ARN of the stack's own secret, or None."""

    properties: dict[str, Any]
    kept: pulumi.Output[str] | None = None

    @classmethod
    def of_rds(cls, key: EncryptionKey) -> Administrator:
        """Return an administrator whose password RDS creates, stores and rotates."""
        return cls(
            {
                "username": rds.ADMIN,
                "manage_master_user_password": True,
                "master_user_secret_kms_key_id": key.arn,
            }
        )

    @classmethod
    def of_the_stack(cls, site: AwsSite, key: EncryptionKey, child: pulumi.ResourceOptions) -> Administrator:
        """Create a password and store it in the format that RDS uses for its own. It is not rotated."""
        password = Password("postgres-admin", child).value
        secret = aws.secretsmanager.Secret(
            "postgres-admin",
            # AWS appends a suffix, so a stack can be created again while the old one's secret awaits deletion.
            name_prefix=site.name("postgres-admin-"),
            description=f"The administrator of Postgres of {site.name()}",
            kms_key_id=key.arn,
            recovery_window_in_days=_RECOVERY_DAYS,
            tags=site.tags("postgres-admin"),
            opts=child,
        )
        # Write-only properties are never read back, so a preview needs no permission to read a password.
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
            # The ARN is used only after the secret has its value.
            pulumi.Output.all(secret.arn, version.id).apply(lambda known: str(known[0])),
        )

    def secret(self, primary: aws.rds.Instance) -> pulumi.Output[str]:
        """Return the ARN of the secret with the password."""
        if self.kept is not None:
            return self.kept
        return primary.master_user_secrets.apply(lambda secrets: secrets[0].secret_arn or "")

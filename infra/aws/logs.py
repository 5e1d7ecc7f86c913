"""Log groups: encrypted with the stack's key, kept as long as the settings say, and made before who writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.site import Site


@dataclass(frozen=True)
class Logs:
    """What makes the log groups of a stack."""

    site: Site
    key: EncryptionKey

    def group(
        self, name: str, path: str, parent: pulumi.Resource, depends_on: Sequence[pulumi.Resource] = ()
    ) -> aws.cloudwatch.LogGroup:
        """The group `path`. Where AWS itself would make it, it would be unencrypted and never end."""
        return aws.cloudwatch.LogGroup(
            name,
            name=path,
            kms_key_id=self.key.arn,
            retention_in_days=self.site.settings.aws_log_retention_days,
            tags=self.site.tags(name),
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[self.key.key, *depends_on]),
        )

"""Log groups, encrypted with the stack's key and with the retention of the settings.

The program creates a log group before the resource that writes it. Otherwise AWS would create the group, without
encryption and with unlimited retention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.site import AwsSite


@dataclass(frozen=True)
class Logs:
    """Creates the log groups of a stack."""

    site: AwsSite
    key: EncryptionKey

    def group(
        self, name: str, path: str, parent: pulumi.Resource, depends_on: Sequence[pulumi.Resource] = ()
    ) -> aws.cloudwatch.LogGroup:
        """Create the log group `path`."""
        return aws.cloudwatch.LogGroup(
            name,
            name=path,
            kms_key_id=self.key.arn,
            retention_in_days=self.site.settings.aws_log_retention_days,
            tags=self.site.tags(name),
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[self.key.key, *depends_on]),
        )

"""A stack's region, account and resource names in AWS. Creates only the provider, and asks AWS only for the account."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.settings import StackSettings
from infra.spec.checkout import PROJECT
from infra.spec.errors import InfraError


@dataclass(frozen=True)
class AwsSite:
    """A stack's settings, account, partition and provider, with methods that build names and ARNs."""

    stack: str
    settings: StackSettings
    account: pulumi.Output[str]
    partition: pulumi.Output[str]
    provider: aws.Provider

    @classmethod
    def of(cls, stack: str, settings: StackSettings) -> AwsSite:
        """Create the stack's provider. Raises InfraError if the stack's name cannot be part of AWS's resource names."""
        if not re.fullmatch(r"(?!.{17})[a-z](-?[a-z0-9])*", stack):
            raise InfraError(
                f"stack {stack!r} cannot be on AWS, because its name is part of resource names there;"
                " use at most 16 of a-z, 0-9 and single hyphens, starting with a letter, like prod"
            )
        provider = aws.Provider(
            "aws",
            region=settings.aws_region,
            default_tags=aws.ProviderDefaultTagsArgs(tags={"project": PROJECT, "stack": stack}),
        )
        identity = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=provider))
        return cls(
            stack,
            settings,
            identity.account_id,
            identity.arn.apply(lambda arn: arn.split(":")[1]),
            provider,
        )

    @property
    def region(self) -> str:
        return self.settings.aws_region

    def name(self, what: str = "") -> str:
        """Return `groundwork-STACK`, or `groundwork-STACK-WHAT`."""
        return "-".join(part for part in (PROJECT, self.stack, what) if part)

    @property
    def permissions_boundary(self) -> pulumi.Output[str] | None:
        """Return the ARN of the policy that limits every role of the stack, or None without awsPermissionsBoundary."""
        if not (policy := self.settings.aws_permissions_boundary):
            return None
        return pulumi.Output.format("arn:{0}:iam::{1}:policy/{2}", self.partition, self.account, policy)

    def arn(self, service: str, resource: pulumi.Input[str]) -> pulumi.Output[str]:
        """Return the ARN of a resource of this account in this region."""
        return pulumi.Output.format(
            "arn:{0}:{1}:{2}:{3}:{4}", self.partition, service, self.region, self.account, resource
        )

    def tags(self, what: str) -> dict[str, str]:
        """Return the tag with the name for the console. The provider adds its default tags."""
        return {"Name": self.name(what)}

    def component(self, parent: pulumi.Resource | None = None) -> pulumi.ResourceOptions:
        """Return options for a component, so that its children use the stack's provider."""
        return pulumi.ResourceOptions(parent=parent, providers={"aws": self.provider})

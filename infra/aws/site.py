"""Where a stack is in AWS and what its things are called. Makes nothing, and asks AWS only who asks."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.settings import StackSettings
from infra.spec.errors import InfraError
from infra.spec.world import PROJECT


@dataclass(frozen=True)
class Site:
    """A stack's place: settings, account and partition; `name` makes names, `arn` resource names."""

    stack: str
    settings: StackSettings
    account: pulumi.Output[str]
    partition: pulumi.Output[str]
    provider: aws.Provider

    @classmethod
    def of(cls, stack: str, settings: StackSettings) -> Site:
        """InfraError where AWS takes no name made of the stack's."""
        if not re.fullmatch(r"[a-z](-?[a-z0-9]){0,15}", stack):
            raise InfraError(
                f"stack {stack!r} cannot be on AWS, where names are made of it;"
                " take a name of a-z, 0-9 and single hyphens, 16 at most, like prod"
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
        """`groundwork-prod`, or `groundwork-prod-app` of `app`."""
        return "-".join(part for part in (PROJECT, self.stack, what) if part)

    def arn(self, service: str, resource: pulumi.Input[str]) -> pulumi.Output[str]:
        """The ARN of a thing of this account in this region."""
        return pulumi.Output.format(
            "arn:{0}:{1}:{2}:{3}:{4}", self.partition, service, self.region, self.account, resource
        )

    def tags(self, what: str) -> dict[str, str]:
        """The name people see in the console; the rest of the tags are the provider's default ones."""
        return {"Name": self.name(what)}

    def component(self, parent: pulumi.Resource | None = None) -> pulumi.ResourceOptions:
        """Options of a component: what hangs below it is made by the stack's provider."""
        return pulumi.ResourceOptions(parent=parent, providers={"aws": self.provider})

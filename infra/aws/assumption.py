"""The trust policy of IAM roles: an AWS service may assume a role, on behalf of this account only."""

from __future__ import annotations

import json

import pulumi

from infra.aws.site import AwsSite


def assumed_by(service: str, site: AwsSite) -> pulumi.Output[str]:
    """Return the trust policy of a role for a service such as `ecs-tasks.amazonaws.com`."""
    return site.account.apply(
        lambda account: json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": service},
                        "Action": "sts:AssumeRole",
                        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
                    }
                ],
            }
        )
    )

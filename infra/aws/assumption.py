"""Who may put on a role: one of AWS's services, on behalf of this account and of no other."""

from __future__ import annotations

import json

import pulumi

from infra.aws.site import Site


def assumed_by(service: str, site: Site) -> pulumi.Output[str]:
    """The trust policy of a role for a service like `ecs-tasks.amazonaws.com`."""
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

"""The identities to which docs/aws-operations.md attaches policies, and the ARNs and tags of their requests."""

from __future__ import annotations

from tests.unit.infra.aws.iam.evaluator import ACCOUNT, REGION, STACK

PREVIEW = ("preview.json",)
DEPLOY = (*PREVIEW, "deploy-servers.json", "deploy-roles.json", "deploy-surroundings.json")
# Of the person who runs the first `up`, and `down`.
SET_UP = (*DEPLOY, "set-up.json")
EXISTING_VPC = ("existing-vpc.json",)
BACKUP_COPIES = ("backup-copies.json",)

# Tags of a resource of this stack, and tags in a request that creates one.
OURS = {"aws:ResourceTag/project": "groundwork", "aws:ResourceTag/stack": STACK}
NEW = {"aws:RequestTag/project": "groundwork", "aws:RequestTag/stack": STACK}
BOUNDARY_ARN = f"arn:aws:iam::{ACCOUNT}:policy/ci-groundwork-boundary-{STACK}"
BOUNDED = {"iam:PermissionsBoundary": BOUNDARY_ARN}
STATE_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1111-state"


def arn(service: str, resource: str) -> str:
    """Return the ARN of a resource of the account."""
    match service:
        case "s3":
            return f"arn:aws:s3:::{resource}"
        case "route53":
            return f"arn:aws:route53:::{resource}"
        case "iam":
            return f"arn:aws:iam::{ACCOUNT}:{resource}"
        case _:
            return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"

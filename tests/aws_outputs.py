"""The properties that AWS adds to a resource: plausible ids, ARNs and addresses, derived from the resource's name.

The unit tests' recording engine and the real engine's echo provider use them. Plain data, without Pulumi.
"""

from __future__ import annotations

from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-central-1"
IDENTITY = {
    "accountId": ACCOUNT,
    "arn": f"arn:aws:iam::{ACCOUNT}:user/operator",
    "id": ACCOUNT,
    "userId": "AIDA",
}


def computed(type_: str, name: str) -> dict[str, Any]:
    """Return the computed outputs of a resource of a type such as `aws:rds/instance:Instance`."""
    service, _, kind = type_.partition(":")[2].partition("/")
    kind = kind.partition(":")[2]
    found: dict[str, Any] = {"arn": f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}", "name": f"{name}-0a1b2c3"}
    match service, kind:
        case "rds", "Instance":
            secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-{name}"
            found |= {
                "address": f"{name}.abc.{REGION}.rds.amazonaws.com",
                "endpoint": f"{name}.abc.{REGION}.rds.amazonaws.com:15432",
                "resourceId": f"db-{name.upper()}",
                "masterUserSecrets": [{"secretArn": secret, "secretStatus": "active", "kmsKeyId": "k"}],
            }
        case "elasticache", "ReplicationGroup":
            found["primaryEndpointAddress"] = f"master.{name}.abc.euc1.cache.amazonaws.com"
            found["readerEndpointAddress"] = f"replica.{name}.abc.euc1.cache.amazonaws.com"
        case "ecr", "Repository":
            found["repositoryUrl"] = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}"
        case "ec2", "VpcEndpoint":
            found["prefixListId"] = f"pl-{name}"
        case "ecs", "TaskDefinition":
            found["arn"] = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{name}:1"
        case "kms", "Key":
            found["keyId"] = f"{name}-key"
    return found

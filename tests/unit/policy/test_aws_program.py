"""The AWS program follows every rule, with the settings of production and staging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.policy.resource import Resource, Resources
from infra.policy.rules import RULES, judge
from infra.policy.value import read_value
from tests.unit.infra.aws.program import run_aws_program

ROOT = Path(__file__).parents[3]


def settings_of(stack: str) -> dict[str, Any]:
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix("groundwork:"): value for key, value in config.items()}


def declared(folder: Path, settings: dict[str, Any]) -> Resources:
    return Resources(
        Resource(
            urn=each.urn,
            type=each.type,
            properties=read_value(each.inputs),
            id=f"{each.name}-id",
            is_protected=each.protect,
        )
        for each in run_aws_program(folder, **settings).resources
    )


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_the_repositorys_stacks_follow_every_rule(stack: str, tmp_path: Path) -> None:
    resources = declared(tmp_path, settings_of(stack))
    assert [(f.rule, f.resource, f.property, f.message) for f in judge(resources)] == []
    unasked = {rule.id for rule in RULES if not resources.of(*rule.types)}
    # The program's only secret in Secrets Manager is rotated automatically.
    assert unasked <= {"SecretsManager.1", "SecretsManager.4"}


@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        # A run of the program takes a second, so that each has settings of several servers.
        (
            {"awsPostgresMultiAz": "false", "awsRedisNodes": "1", "awsRedisFailover": "false"},
            {"RDS.5", "ElastiCache.3"},
        ),
        ({"protectData": "false", "awsRedisEngine": "valkey-8.2"}, {"RDS.8"}),
        ({"awsMinorUpgrades": "false"}, {"RDS.13", "ElastiCache.2"}),
        ({"postgresReplicas": "1"}, {"RDS.managed-password", "SecretsManager.1"}),
    ],
    ids=lambda value: "+".join(sorted(value)),
)
def test_a_setting_that_disables_a_control_is_reported_and_no_other(
    settings: dict[str, Any], rules: set[str], tmp_path: Path
) -> None:
    resources = declared(tmp_path, settings_of("staging") | settings)
    assert {finding.rule for finding in judge(resources)} == rules


def test_what_an_existing_vpc_lets_out_cannot_be_said(tmp_path: Path) -> None:
    """Its routes are not in the stack, so the result is undetermined."""
    existing = {
        "awsVpcId": "vpc-0a1b2c3d",
        "awsPrivateSubnets": "subnet-0a1b2c3d,subnet-1a1b2c3d",
        "awsIsolatedSubnets": "subnet-2a1b2c3d,subnet-3a1b2c3d",
        "awsRouteTables": "rtb-0a1b2c3d",
    }
    found = judge(declared(tmp_path, settings_of("staging") | existing))
    assert {(finding.rule, finding.status.value) for finding in found} == {("RDS.46", "undetermined")}

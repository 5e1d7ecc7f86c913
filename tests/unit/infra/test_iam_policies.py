"""The IAM policies in docs/iam: valid, complete for what the program uses, and read-only where intended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises import promise

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "iam"
POLICIES = sorted(path.name for path in FOLDER.glob("*.json"))
ATTACHED = [name for name in POLICIES if not name.startswith("trust-")]
DEPLOY = ["preview.json", "deploy-servers.json", "deploy-surroundings.json"]
# A managed policy without whitespace.
MOST_CHARACTERS = 6144
# Module of pulumi_aws -> the service whose actions create its resources.
SERVICES = {"vpc": "ec2"}
READS = re.compile(r"\w+:(Describe|Get|List)\w*\*?")
# A preview decrypts the state.
READS_BESIDES = {"kms:Decrypt"}


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / name).read_text())["Statement"]
    return found


def actions(*names: str) -> Iterator[str]:
    for name in names:
        for statement in statements(name):
            yield from statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


def used_services() -> set[str]:
    text = "".join(path.read_text() for path in (ROOT / "infra" / "aws").glob("*.py"))
    modules = re.findall(r"\baws\.([a-z]+)\.[A-Z]\w*\(", text)
    assert modules
    return {SERVICES.get(module, module) for module in modules}


@promise("the policies are valid, within the length limit, and name every service that the program uses")
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_has_a_form_that_iam_accepts(name: str) -> None:
    content = json.loads((FOLDER / name).read_text())
    assert content["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in content["Statement"]]
    assert len(set(sids)) == len(sids)
    for statement in content["Statement"]:
        assert statement["Effect"] == "Allow"
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        assert ("Resource" in statement) != ("Principal" in statement)


@promise("the policies are valid, within the length limit, and name every service that the program uses")
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_not_longer_than_iam_accepts(name: str) -> None:
    assert len(re.sub(r"\s", "", (FOLDER / name).read_text())) <= MOST_CHARACTERS


@pytest.mark.parametrize("name", ATTACHED)
def test_no_policy_allows_a_whole_service(name: str) -> None:
    for action in actions(name):
        service, _, rest = action.partition(":")
        assert re.fullmatch(r"[a-z0-9-]+", service), action
        assert rest.rstrip("*"), action


@promise("the preview policy allows reads only, and no read of passwords or rows")
def test_the_preview_role_may_only_read() -> None:
    assert [a for a in actions("preview.json") if not READS.fullmatch(a) and a not in READS_BESIDES] == []


@promise("the preview policy allows reads only, and no read of passwords or rows")
@pytest.mark.parametrize(
    "action", ["secretsmanager:GetSecretValue", "rds-db:connect", "elasticache:Connect", "logs:GetLogEvents"]
)
def test_the_preview_role_cannot_read_passwords_or_rows(action: str) -> None:
    assert action not in set(actions("preview.json"))


def test_decryption_is_allowed_only_for_the_states_secrets() -> None:
    (opening,) = [s for s in statements("preview.json") if "kms:Decrypt" in s["Action"]]
    assert opening["Resource"] == "arn:aws:kms:REGION:ACCOUNT:key/STATE_KEY"


@promise("the policies are valid, within the length limit, and name every service that the program uses")
@pytest.mark.parametrize("service", sorted(used_services()))
def test_every_service_that_the_program_uses_can_be_read_and_written(service: str) -> None:
    read = {action.partition(":")[0] for action in actions("preview.json")}
    written = {action.partition(":")[0] for action in actions(*DEPLOY[1:])}
    assert service in read & written


@pytest.mark.parametrize(
    ("action", "made"),
    [
        ("ec2:CreateVpc", "Vpc"),
        ("ec2:CreateVpcEndpoint", "VpcEndpoint"),
        ("ec2:CreateSecurityGroup", "SecurityGroup"),
        ("rds:CreateDBInstance", "Instance"),
        ("rds:CreateEventSubscription", "EventSubscription"),
        ("rds:RestoreDBInstanceToPointInTime", "what a restore and a drill make"),
        ("elasticache:CreateReplicationGroup", "ReplicationGroup"),
        ("elasticache:CreateUserGroup", "UserGroup"),
        ("ecs:RunTask", "the bootstrap"),
        ("ecr:PutImage", "the image"),
        ("iam:CreateRole", "Role"),
        ("kms:CreateKey", "Key"),
        ("cloudwatch:PutMetricAlarm", "MetricAlarm"),
        ("sns:Subscribe", "TopicSubscription"),
    ],
)
def test_the_deploy_role_may_create(action: str, made: str) -> None:
    assert action in set(actions(*DEPLOY)), made


@pytest.mark.parametrize(
    ("action", "kinds"),
    [
        # The option group belongs to RDS, but the permission is required.
        ("rds:CreateDBInstance", {"db", "pg", "subgrp", "og"}),
        ("rds:ModifyDBInstance", {"db", "pg", "og"}),
        ("rds:RestoreDBInstanceToPointInTime", {"db", "pg", "subgrp", "og", "auto-backup"}),
    ],
)
def test_the_deploy_role_may_do_everything_that_creating_an_instance_requires(
    action: str, kinds: set[str]
) -> None:
    (statement,) = [s for s in statements("deploy-servers.json") if action in s["Action"]]
    assert kinds <= {resource.split(":")[5] for resource in statement["Resource"]}


@pytest.mark.parametrize("action", ["iam:CreateRole", "iam:AttachRolePolicy", "iam:PutRolePolicy", "kms:CreateKey",
                                    "kms:ScheduleKeyDeletion", "kms:Decrypt", "iam:DeleteRole"])  # fmt: skip
def test_roles_and_keys_are_limited_by_tag_or_name(action: str) -> None:
    for statement in statements("deploy-servers.json"):
        if (
            action in statement["Action"]
            and statement["Resource"] != "arn:aws:kms:REGION:ACCOUNT:key/STATE_KEY"
        ):
            (condition,) = statement["Condition"]["StringEquals"].items()
            assert condition[0] in ("aws:RequestTag/project", "aws:ResourceTag/project")
            assert condition[1] == "groundwork"


def test_roles_can_be_passed_only_to_tasks_and_monitoring() -> None:
    (passing,) = [s for s in statements("deploy-servers.json") if "iam:PassRole" in s["Action"]]
    assert passing["Condition"] == {
        "StringEquals": {"iam:PassedToService": ["ecs-tasks.amazonaws.com", "monitoring.rds.amazonaws.com"]}
    }


@pytest.mark.parametrize("name", ["trust-preview.json", "trust-deploy.json"])
def test_named_jobs_of_one_repository_can_assume_a_ci_role(name: str) -> None:
    (statement,) = statements(name)
    condition = statement["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    subjects = condition["token.actions.githubusercontent.com:sub"]
    for subject in [subjects] if isinstance(subjects, str) else subjects:
        assert "*" not in subject
        assert subject.startswith("repo:OWNER/REPOSITORY:")


def test_only_jobs_of_an_environment_can_assume_the_deploy_role() -> None:
    (statement,) = statements("trust-deploy.json")
    subject = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    assert subject == "repo:OWNER/REPOSITORY:environment:ENVIRONMENT"

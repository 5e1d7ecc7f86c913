"""docs/iam: policies that IAM takes, that name what the program uses, and that read where they are to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "iam"
POLICIES = sorted(path.name for path in FOLDER.glob("*.json"))
ATTACHED = [name for name in POLICIES if not name.startswith("trust-")]
DEPLOY = ["preview.json", "deploy-servers.json", "deploy-surroundings.json"]
# A managed policy, without blanks.
MOST_CHARACTERS = 6144
# A module of pulumi_aws -> the service whose actions make what is in it.
SERVICES = {"vpc": "ec2"}
READS = re.compile(r"\w+:(Describe|Get|List)\w*\*?")
# A state is decrypted by whoever previews.
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


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_of_the_form_that_iam_takes(name: str) -> None:
    content = json.loads((FOLDER / name).read_text())
    assert content["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in content["Statement"]]
    assert len(set(sids)) == len(sids)
    for statement in content["Statement"]:
        assert statement["Effect"] == "Allow"
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        assert ("Resource" in statement) != ("Principal" in statement)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_no_longer_than_iam_takes(name: str) -> None:
    assert len(re.sub(r"\s", "", (FOLDER / name).read_text())) <= MOST_CHARACTERS


@pytest.mark.parametrize("name", ATTACHED)
def test_nothing_is_allowed_as_a_whole_service(name: str) -> None:
    for action in actions(name):
        service, _, rest = action.partition(":")
        assert re.fullmatch(r"[a-z0-9-]+", service), action
        assert rest.rstrip("*"), action


def test_who_previews_reads_and_does_nothing_else() -> None:
    assert [a for a in actions("preview.json") if not READS.fullmatch(a) and a not in READS_BESIDES] == []


@pytest.mark.parametrize(
    "action", ["secretsmanager:GetSecretValue", "rds-db:connect", "elasticache:Connect", "logs:GetLogEvents"]
)
def test_who_previews_reads_no_password_and_no_row(action: str) -> None:
    assert action not in set(actions("preview.json"))


def test_what_opens_secrets_opens_those_of_the_state_alone() -> None:
    (opening,) = [s for s in statements("preview.json") if "kms:Decrypt" in s["Action"]]
    assert opening["Resource"] == "arn:aws:kms:REGION:ACCOUNT:key/STATE_KEY"


@pytest.mark.parametrize("service", sorted(used_services()))
def test_every_service_that_the_program_uses_is_read_and_written(service: str) -> None:
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
def test_who_deploys_may_make(action: str, made: str) -> None:
    assert action in set(actions(*DEPLOY)), made


@pytest.mark.parametrize(
    ("action", "kinds"),
    [
        # The option group is RDS's own, and asked for all the same.
        ("rds:CreateDBInstance", {"db", "pg", "subgrp", "og"}),
        ("rds:ModifyDBInstance", {"db", "pg", "og"}),
        ("rds:RestoreDBInstanceToPointInTime", {"db", "pg", "subgrp", "og", "auto-backup"}),
    ],
)
def test_an_instance_is_made_with_all_that_rds_asks_for(action: str, kinds: set[str]) -> None:
    (statement,) = [s for s in statements("deploy-servers.json") if action in s["Action"]]
    assert kinds <= {resource.split(":")[5] for resource in statement["Resource"]}


@pytest.mark.parametrize("action", ["iam:CreateRole", "iam:AttachRolePolicy", "iam:PutRolePolicy", "kms:CreateKey",
                                    "kms:ScheduleKeyDeletion", "kms:Decrypt", "iam:DeleteRole"])  # fmt: skip
def test_roles_and_keys_are_bounded_by_our_tag_or_name(action: str) -> None:
    for statement in statements("deploy-servers.json"):
        if (
            action in statement["Action"]
            and statement["Resource"] != "arn:aws:kms:REGION:ACCOUNT:key/STATE_KEY"
        ):
            (condition,) = statement["Condition"]["StringEquals"].items()
            assert condition[0] in ("aws:RequestTag/project", "aws:ResourceTag/project")
            assert condition[1] == "groundwork"


def test_a_role_is_given_to_tasks_and_to_monitoring_alone() -> None:
    (passing,) = [s for s in statements("deploy-servers.json") if "iam:PassRole" in s["Action"]]
    assert passing["Condition"] == {
        "StringEquals": {"iam:PassedToService": ["ecs-tasks.amazonaws.com", "monitoring.rds.amazonaws.com"]}
    }


@pytest.mark.parametrize("name", ["trust-preview.json", "trust-deploy.json"])
def test_a_role_of_ci_is_taken_by_named_jobs_of_one_repository(name: str) -> None:
    (statement,) = statements(name)
    condition = statement["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    subjects = condition["token.actions.githubusercontent.com:sub"]
    for subject in [subjects] if isinstance(subjects, str) else subjects:
        assert "*" not in subject
        assert subject.startswith("repo:OWNER/REPOSITORY:")


def test_the_role_that_deploys_is_taken_by_an_environments_jobs() -> None:
    (statement,) = statements("trust-deploy.json")
    subject = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    assert subject == "repo:OWNER/REPOSITORY:environment:ENVIRONMENT"

"""The IAM policies in docs/iam: valid, short enough, and without permissions for whole services."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jmespath
import pytest

from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation.pages import ROOT
from tests.unit.infra.aws.iam.evaluator import FOLDER, STACK, VALUES, text, with_instances
from tests.unit.infra.aws.iam.identities import SET_UP
from tests.unit.infra.aws.models.shapes import service

POLICIES = sorted(path.name for path in FOLDER.glob("*.json"))
ATTACHED = [name for name in POLICIES if not name.startswith("trust-")]
# A managed policy without whitespace, and a role's trust policy.
MOST_CHARACTERS, MOST_IN_TRUST = 6144, 2048
# The longest value of a placeholder, in characters.
LONGEST = {
    "ACCOUNT": 12,
    "REGION": 14,
    "ENVIRONMENT": 16,
    "STATE_BUCKET": 63,
    "STATE_KEY": 36,
    "OWNER": 39,
    "REPOSITORY": 60,
    "OWNER_ID": 12,
    "REPOSITORY_ID": 12,
    "BACKUP_REGION": 14,
    "BACKUP_KEY": 36,
    "VPC_ID": 21,
    "SUBNET_ID": 24,
    "ROUTE_TABLE_ID": 21,
    "DBI_RESOURCE_ID": 29,
}
# A primary, five read replicas, a restored instance and the one before it.
MOST_INSTANCES = 8
READS = re.compile(r"\w+:(Describe|Get|List)\w*\*?")
# A preview decrypts the state.
READS_BESIDES = {"kms:Decrypt"}


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / name).read_text())["Statement"]
    return found


def actions(*names: str) -> Iterator[str]:
    for name in names:
        for statement in statements(name):
            found = statement["NotAction"] if "NotAction" in statement else statement["Action"]
            yield from [found] if isinstance(found, str) else found


@promise("the policies are valid, and shorter than IAM's limit with the longest values")
def test_a_policy_has_a_form_that_iam_accepts() -> None:
    for name in POLICIES:
        with in_case(name):
            content = json.loads((FOLDER / name).read_text())
            assert content["Version"] == "2012-10-17"
            sids = [statement["Sid"] for statement in content["Statement"]]
            assert len(set(sids)) == len(sids)
            for statement in content["Statement"]:
                # NotAction with Allow would allow what AWS adds in future.
                assert (statement["Effect"], "NotAction" in statement) != ("Allow", True)
                assert statement["Effect"] in ("Allow", "Deny")
                assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
                assert ("Resource" in statement) != ("Principal" in statement)


@promise("the policies are valid, and shorter than IAM's limit with the longest values")
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_not_longer_than_iam_accepts(name: str) -> None:
    content = with_instances((FOLDER / name).read_text(), ["DBI_RESOURCE_ID"] * MOST_INSTANCES)
    assert content.count("DBI_RESOURCE_ID") == (MOST_INSTANCES if name == "boundary.json" else 0)
    placeholders = re.compile(r"\b(" + "|".join(sorted(LONGEST, key=len, reverse=True)) + r")\b")
    filled = placeholders.sub(lambda match: "x" * LONGEST[match[1]], re.sub(r"\s", "", content))
    assert len(filled) > len(re.sub(r"\s", "", content)) / 2
    assert len(filled) <= (MOST_IN_TRUST if name.startswith("trust-") else MOST_CHARACTERS)


def test_every_placeholder_is_known_and_documented() -> None:
    for name in POLICIES:
        with in_case(name):
            page = (ROOT / "docs" / "aws-operations.md").read_text()
            # RDS is the beginning of a log group's name.
            found = set(re.findall(r"\b[A-Z][A-Z_]{2,}\b", (FOLDER / name).read_text())) - {"RDS"}
            assert found <= set(LONGEST)
            assert set(LONGEST) == set(VALUES)
            assert {placeholder for placeholder in found if f"`{placeholder}`" not in page} == set()
            assert not re.search(r"\b(?:" + "|".join(LONGEST) + r")\b", text(name))
            assert f"`docs/iam/{name}`" in page


def test_no_policy_allows_a_whole_service() -> None:
    for name in ATTACHED:
        with in_case(name):
            for action in actions(name):
                service, _, rest = action.partition(":")
                assert re.fullmatch(r"[a-z0-9-]+", service), action
                assert rest.rstrip("*"), action


def test_every_name_and_tag_is_limited_to_the_environment() -> None:
    """Otherwise staging's role could change prod."""
    for name in SET_UP[1:]:
        for statement in statements(name):
            if statement["Effect"] == "Allow":
                for found in re.findall(r"(?<!/)\bgroundwork-[\w*]+", json.dumps(statement)):
                    assert found == "groundwork-ENVIRONMENT*" or "ci-groundwork-boundary" in json.dumps(
                        statement
                    )
                for key in re.findall(r'"aws:(\w+)/project": "groundwork"', json.dumps(statement)):
                    assert f'"aws:{key}/stack": "ENVIRONMENT"' in json.dumps(statement), statement["Sid"]
    assert STACK in text("deploy-servers.json")


# Sid and resource of each permission for something that no name, tag or id limits to the environment. The pages that
# explain the limits of the policies have a line for each: docs/aws-operations.md, or docs/adr/0026.
SHARED: dict[str, set[tuple[str, str]]] = {
    "boundary.json": {
        ("SignInToRegistry", "*"),
        ("WriteEnhancedMonitoring", "arn:aws:logs:REGION:ACCOUNT:log-group:RDS*"),
    },
    "deploy-servers.json": {
        ("EncryptStateSecrets", "arn:aws:kms:REGION:ACCOUNT:key/STATE_KEY"),
        # With ModifyDBInstance, which needs the instance too.
        ("Postgres", "arn:aws:rds:REGION:ACCOUNT:og:default:*"),
        # Only through RDS, for an instance that the identity may change.
        ("PasswordManagedByRds", "arn:aws:secretsmanager:REGION:ACCOUNT:secret:rds!*"),
    },
    "deploy-roles.json": set(),
    "deploy-surroundings.json": {
        # A rule needs a group too, which is limited by its tags.
        ("CreateRules", "arn:aws:ec2:REGION:ACCOUNT:security-group-rule/*"),
        ("SignInToRegistry", "*"),
    },
}


def test_every_other_permission_is_limited_to_the_environment() -> None:
    for name, shared in SHARED.items():
        with in_case(name):
            found = set()
            for statement in statements(name):
                limits = json.dumps(statement.get("Condition", {}))
                if statement["Effect"] == "Allow" and "ENVIRONMENT" not in limits:
                    resources = statement["Resource"]
                    found |= {
                        (statement["Sid"], each)
                        for each in ([resources] if isinstance(resources, str) else resources)
                        if not re.search(r"\b(ENVIRONMENT|DBI_RESOURCE_ID)\b", each)
                    }
            assert found == shared


def test_the_documented_command_shows_the_ids_of_the_stacks_instances_only() -> None:
    page = (ROOT / "docs" / "aws-operations.md").read_text()
    (query,) = re.findall(r'--query "(DBInstances\[[^"]+)"', page)
    names = [
        "groundwork-staging",
        "groundwork-staging-replica-1",
        "groundwork-staging-restored-20260101-000000",
    ]
    described = [
        {"DBInstanceIdentifier": name, "DbiResourceId": f"db-{number}"}
        for number, name in enumerate([*names, "groundwork-prod", "company", "a-groundwork-staging"])
    ]
    found = jmespath.search(query, {"DBInstances": described})
    assert found == [[name, f"db-{number}"] for number, name in enumerate(names)]


@promise("the preview policy allows reads only, and no read of passwords or rows")
def test_the_preview_role_may_only_read() -> None:
    assert [a for a in actions("preview.json") if not READS.fullmatch(a) and a not in READS_BESIDES] == []


@promise("the preview policy allows reads only, and no read of passwords or rows")
def test_the_preview_role_cannot_read_passwords_or_rows() -> None:
    cases: list[str] = [
        "secretsmanager:GetSecretValue",
        "rds-db:connect",
        "elasticache:Connect",
        "logs:GetLogEvents",
    ]
    for action in cases:
        with in_case(action):
            assert action not in set(actions("preview.json"))


def test_decryption_is_allowed_only_for_the_states_secrets() -> None:
    (opening,) = [s for s in statements("preview.json") if "kms:Decrypt" in s["Action"]]
    assert opening["Resource"] == "arn:aws:kms:REGION:ACCOUNT:key/STATE_KEY"


# Actions that no request has the name of: https://docs.aws.amazon.com/service-authorization/latest/reference.
WITHOUT_OPERATION = {
    "elasticache:Connect",
    "iam:PassRole",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "rds-db:connect",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:UpdateLogDelivery",
}


@promise("the policies are valid, and shorter than IAM's limit with the longest values")
def test_every_action_exists() -> None:
    """A misspelt action allows and denies nothing, and IAM does not report it."""
    unknown = set()
    for action in set(actions(*ATTACHED)) - WITHOUT_OPERATION:
        prefix, _, name = action.partition(":")
        names = service(prefix).operation_names
        if not any(re.fullmatch(name.replace("*", ".*"), operation) for operation in names):
            unknown.add(action)
    assert unknown == set()

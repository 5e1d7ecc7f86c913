"""The policies in docs/iam allow every request that the program needs, and its roles stay inside the boundary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.aws.iam import needs_of_network, needs_of_servers, needs_of_surroundings
from tests.unit.infra.aws.iam.evaluator import INSTANCES, Request, Statement, allowed, load
from tests.unit.infra.aws.iam.identities import (
    BACKUP_COPIES,
    BOUNDARY_ARN,
    DEPLOY,
    EXISTING_VPC,
    NEW,
    OURS,
    PREVIEW,
    SET_UP,
    arn,
)
from tests.unit.infra.aws.iam.need import Need
from tests.unit.infra.aws.program import TYPES, document
from tests.unit.infra.program import Program

TABLE = needs_of_network.TABLE | needs_of_servers.TABLE | needs_of_surroundings.TABLE
READING = ("Describe", "Get", "List")


@pytest.fixture(params=["program", "existing_vpc", "own_way_out"])
def stack(request: pytest.FixtureRequest) -> Program:
    found: Program = request.getfixturevalue(request.param)
    return found


def needs(stack: Program) -> Iterator[Need]:
    for resource in stack.resources:
        if not resource.type.startswith("groundwork:") and resource.type in TABLE:
            yield from TABLE[resource.type](resource.inputs)
    yield from needs_of_servers.beside_resources()


def policies(*names: str, stack: Program) -> list[Statement]:
    of_vpc = () if stack.of_type(TYPES["vpc"]) else EXISTING_VPC
    return load(*names, *of_vpc, *(BACKUP_COPIES if stack.of_type(TYPES["backup copies"]) else ()))


def denied(found: Iterable[Need], statements: list[Statement]) -> set[tuple[str, str, str]]:
    return {
        (need.request.action, need.request.resource, str(dict(need.request.context)))
        for need in found
        if not allowed(need.request, statements)
    }


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_every_type_of_resource_has_a_row(program: Program, existing_vpc: Program) -> None:
    made = {
        r.type for r in [*program.resources, *existing_vpc.resources] if not r.type.startswith("groundwork:")
    }
    made -= {"pulumi-python:dynamic:Resource", "pulumi:providers:aws"}
    assert made == set(TABLE)


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_deploy_role_may_do_what_every_up_needs(stack: Program) -> None:
    found = (need for need in needs(stack) if not need.set_up)
    assert denied(found, policies(*DEPLOY, stack=stack)) == set()


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_first_up_and_down_need_the_policy_for_set_up(stack: Program) -> None:
    assert denied(needs(stack), policies(*SET_UP, stack=stack)) == set()


ELSEWHERE = {"aws:ResourceTag/project": "groundwork", "aws:ResourceTag/stack": "prod"}
OTHER = {"aws:ResourceTag/project": "company", "aws:ResourceTag/stack": "unit"}
# AWS counts a new key's tags after up to five minutes. Until then the key has none, and no alias.
NEW_KEYS = {
    "kms:CreateAlias",
    "kms:CreateGrant",
    "kms:EnableKeyRotation",
    *(f"kms:{action}" for action in ("Decrypt", "Encrypt", "ReEncryptFrom", "ReEncryptTo")),
    *("kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"),
}
BY_TAG = ("ec2", "kms", "servicediscovery")
# Any rule of a security group may be tagged: to change it, its group must have the tags too.
RULES = arn("ec2", "security-group-rule/")


def without_tags(context: Mapping[str, str], kind: str) -> dict[str, str]:
    return {key: value for key, value in context.items() if not key.startswith(f"aws:{kind}/")}


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_same_requests_for_resources_with_other_tags_are_denied(program: Program) -> None:
    """Also to the identity of the first `up`, except what it needs for a resource that AWS makes without tags."""
    cases: list[tuple[str, dict[str, str]]] = [
        ("no tags", {}),
        ("prod", ELSEWHERE),
        ("another project", OTHER),
    ]
    for name, tags in cases:
        with in_case(name):
            statements = load(*SET_UP)
            checked = 0
            for need in needs(program):
                action, resource, context = need.request.action, need.request.resource, need.request.context
                if not OURS.items() <= context.items() or resource.startswith(RULES):
                    continue
                changed = Request(action, resource, without_tags(context, "ResourceTag") | tags)
                unavoidable = not tags and (
                    action
                    in ("ec2:RevokeSecurityGroupIngress", "ec2:RevokeSecurityGroupEgress", "kms:TagResource")
                    or (action == "ec2:CreateTags" and "security-group/" in resource)
                    or action in NEW_KEYS
                )
                assert not allowed(changed, load(*DEPLOY)), changed
                assert unavoidable or not allowed(changed, statements), changed
                checked += 1
            assert checked > 50


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_first_up_can_use_a_key_before_its_tags_are_in_effect(program: Program) -> None:
    """https://docs.aws.amazon.com/kms/latest/developerguide/abac.html: it may take up to five minutes."""
    statements = load(*SET_UP)
    found = [
        n.request
        for n in needs(program)
        if n.request.action in NEW_KEYS and OURS.items() <= n.request.context.items()
    ]
    assert {request.action for request in found} == NEW_KEYS
    for request in found:
        new = Request(request.action, request.resource, without_tags(request.context, "ResourceTag"))
        assert allowed(new, statements), request
        with_alias = Request(
            new.action, new.resource, {**new.context, "kms:ResourceAliases": "alias/company"}
        )
        assert not allowed(with_alias, statements), request


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_no_policy_allows_a_write_that_nothing_needs(program: Program, existing_vpc: Program) -> None:
    wanted = {n.request.action for stack in (program, existing_vpc) for n in needs(stack)}
    given = {
        action
        for statement in load(*SET_UP, *EXISTING_VPC, *BACKUP_COPIES)
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    }
    unused = {a for a in given if not any(re.fullmatch(a.replace("*", ".*"), action) for action in wanted)}
    assert {action for action in unused if not action.partition(":")[2].startswith(READING)} == set()


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
@pytest.mark.parametrize("kept", ["project", "stack"])
def test_a_resource_cannot_be_created_without_both_tags(program: Program, kept: str) -> None:
    checked = 0
    for need in needs(program):
        request = need.request
        created = NEW.items() <= request.context.items() and not OURS.items() <= request.context.items()
        if created and request.action.partition(":")[0] in BY_TAG and "Authorize" not in request.action:
            tag = f"aws:RequestTag/{kept}"
            context = without_tags(request.context, "RequestTag") | {tag: NEW[tag]}
            assert not allowed(Request(request.action, request.resource, context), load(*SET_UP)), request
            checked += 1
    assert checked > 10


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
@pytest.mark.parametrize("name", ["groundwork-prod", "company"])
def test_the_same_requests_for_resources_with_another_name_are_denied(program: Program, name: str) -> None:
    statements = load(*SET_UP)
    checked = 0
    for need in needs(program):
        request = need.request
        resource = request.resource.replace("groundwork-unit", name).replace(
            "/groundwork/unit", f"/{name}/prod"
        )
        if resource != request.resource and request.action != "s3:GetObject":
            assert not allowed(Request(request.action, resource, request.context), statements), resource
            checked += 1
    assert checked > 200


def test_no_request_of_the_set_up_is_allowed_to_the_deploy_role(program: Program) -> None:
    statements = load(*DEPLOY)
    assert {n.request.action for n in needs(program) if n.set_up and allowed(n.request, statements)} == set()


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_preview_role_may_read_every_resource(stack: Program) -> None:
    reads = [
        n for n in needs(stack) if n.request.action.partition(":")[2].startswith(READING) and not n.set_up
    ]
    reads = [n for n in reads if n.request.action not in ("logs:GetLogEvents", "ecr:GetAuthorizationToken")]
    assert len(reads) > 50
    assert denied(reads, load(*PREVIEW)) == set()


def of_role(program: Program, role: str) -> list[Any]:
    """Return the statements of a role's own policies."""
    attached = [
        r.inputs["policyArn"]
        for r in program.of_type(TYPES["attachment"]).values()
        if r.inputs["role"] == role
    ]
    names = {policy.rpartition(":")[2] for policy in attached}
    managed = [r for name, r in program.of_type(TYPES["policy"]).items() if name in names]
    inline = [r for r in program.of_type(TYPES["role policy"]).values() if r.inputs["role"] == role]
    return [statement for policy in [*managed, *inline] for statement in document(policy.inputs["policy"])]


# Role -> what its task does, with the tags of the resources.
USES = {
    "access": [
        Request("rds-db:connect", arn("rds-db", "dbuser:db-POSTGRES/app_a")),
        Request("rds-db:connect", arn("rds-db", "dbuser:db-POSTGRES-REPLICA-1/app_a")),
        Request("elasticache:Connect", arn("elasticache", "user:groundwork-unit-app")),
    ],
    "bootstrap": [Request("rds-db:connect", arn("rds-db", "dbuser:db-POSTGRES/migrator_a"))],
    "execution": [
        Request("ecr:GetAuthorizationToken", "*"),
        Request("logs:PutLogEvents", arn("logs", "log-group:/groundwork/unit/access:log-stream:access/1")),
    ],
}


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_boundary_lets_the_tasks_work() -> None:
    boundary = load("boundary.json")
    via = OURS | {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}
    rds_tag = {"aws:ResourceTag/aws:rds:primaryDBInstanceArn": arn("rds", "db:groundwork-unit")}
    used = [
        *(request for requests in USES.values() for request in requests),
        Request("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:rds!db-0a1b"), rds_tag),
        Request(
            "secretsmanager:GetSecretValue", arn("secretsmanager", "secret:groundwork-unit-postgres-admin-1")
        ),
        Request("kms:Decrypt", arn("kms", "key/0a1b"), via),
        Request("ecr:BatchGetImage", arn("ecr", "repository/groundwork-unit-access")),
        Request("ecr:GetDownloadUrlForLayer", arn("ecr", "repository/groundwork-unit-access")),
        Request("elasticache:Connect", arn("elasticache", "replicationgroup:groundwork-unit")),
        Request("logs:CreateLogStream", arn("logs", "log-group:/groundwork/unit/bootstrap:log-stream:x")),
        Request("logs:PutLogEvents", arn("logs", "log-group:RDSOSMetrics:log-stream:db-1")),
    ]
    assert [request for request in used if not allowed(request, boundary)] == []


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_boundary_allows_every_login_of_the_login_policies(program: Program) -> None:
    boundary, checked = load("boundary.json"), set()
    for name, policy in program.of_type(TYPES["policy"]).items():
        for statement in document(policy.inputs["policy"]):
            if name.startswith("login-"):
                for resource in statement["Resource"]:
                    assert allowed(Request(statement["Action"], resource), boundary), (name, resource)
                    checked.add((statement["Action"], resource.partition("/")[0]))
    instances = {resource for action, resource in checked if action == "rds-db:connect"}
    assert instances == {arn("rds-db", f"dbuser:{instance}") for instance in INSTANCES}
    assert len(checked) > len(instances)


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_boundary_contains_every_action_of_a_role(program: Program) -> None:
    for role in ("access", "bootstrap", "execution"):
        with in_case(role):
            own = of_role(program, f"groundwork-unit-{role}")
            wanted = {
                a for s in own for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])
            }
            limits = {action for statement in load("boundary.json") for action in statement["Action"]}
            assert wanted
            assert wanted <= limits


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_every_role_has_the_boundary_of_the_setting(bounded: Program, program: Program) -> None:
    roles = bounded.of_type(TYPES["role"])
    assert {role.inputs["permissionsBoundary"] for role in roles.values()} == {BOUNDARY_ARN}
    assert len(roles) == 4
    assert not any("permissionsBoundary" in r.inputs for r in program.of_type(TYPES["role"]).values())


def test_roles_and_policies_have_names_of_the_stack(program: Program) -> None:
    for kind in ("role", "policy"):
        for name, resource in program.of_type(TYPES[kind]).items():
            assert resource.inputs["name"] == f"groundwork-unit-{name}"

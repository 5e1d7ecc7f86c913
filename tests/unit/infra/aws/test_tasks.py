"""Tasks on Fargate: hardened, with least privileges, and without secrets in their definition."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from db.migrator import MIGRATIONS_FOLDER, read_source
from infra import outputs
from infra.certificates import make_authority
from infra.images.context import aws_access_digest
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from infra.spec.roles import LOGINS
from ops.commands.bootstrap import bootstrap
from ops.errors import Exit, OpsError
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.aws.program import PUSHED, TYPES, document, one, run_aws_program
from tests.unit.infra.program import Program, all_texts

TASKS = ("access", "bootstrap")


def container(program: Program, task: str) -> dict[str, Any]:
    (found,) = json.loads(one(program, "task", task)["containerDefinitions"])
    result: dict[str, Any] = found
    return result


def environment(program: Program, task: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(program, task)["environment"]}


@promise("on AWS a container is hardened, and an image is named by digest")
def test_a_container_is_hardened(program: Program) -> None:
    for task in TASKS:
        with in_case(task):
            found = container(program, task)
            assert found["readonlyRootFilesystem"] is True
            assert found["user"] == "10030:10030"
            assert found["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
            assert not found.get("privileged")
            assert "secrets" not in found


@promise("on AWS a container is hardened, and an image is named by digest")
def test_an_image_is_named_by_digest(program: Program, existing_vpc: Program) -> None:
    for task in TASKS:
        with in_case(task):
            assert "@sha256:" in container(program, task)["image"]
            assert container(existing_vpc, task)["image"].endswith(f"/built@sha256:{'1' * 64}")
            assert not existing_vpc.of_type(TYPES["repository"])


@promise("ECR keeps the newest thirty images of a stack")
def test_old_images_expire(program: Program, existing_vpc: Program) -> None:
    kind = "aws:ecr/lifecyclePolicy:LifecyclePolicy"
    (policy,) = program.of_type(kind).values()
    assert policy.inputs["repository"] == one(program, "repository")["name"]
    (rule,) = json.loads(policy.inputs["policy"])["rules"]
    assert rule["action"] == {"type": "expire"}
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 30}
    # The repository of an image that the settings name belongs to others.
    assert not existing_vpc.of_type(kind)


@promise("on AWS connection strings contain no password")
def test_connection_strings_contain_no_password_and_logins_use_tokens(program: Program) -> None:
    for task in TASKS:
        with in_case(task):
            found = environment(program, task)
            assert found["GROUNDWORK_DATABASE_LOGIN"] == "iam"
            for name in ("DATABASE_URL", "REDIS_URL"):
                if name in found:
                    assert ":" not in found[name].partition("://")[2].partition("@")[0]
            assert not [name for name in found if "PASSWORD" in name or "TOKEN" in name]


def test_a_task_writes_its_log_to_the_stacks_log_group(program: Program) -> None:
    for task in TASKS:
        with in_case(task):
            options = container(program, task)["logConfiguration"]["options"]
            assert options["awslogs-group"] == f"/groundwork/unit/{task}"
            assert options["awslogs-group"] in {
                r.inputs["name"] for r in program.of_type(TYPES["log group"]).values()
            }


def test_the_access_tasks_health_check_requests_readyz(program: Program) -> None:
    # Without an argument, the script in the image requests /readyz.
    assert container(program, "access")["healthCheck"]["command"] == ["CMD", "groundwork-health"]
    assert environment(program, "access")["GROUNDWORK_INSTANCES"] == "2"


def test_the_service_never_runs_more_tasks_than_the_connection_limit_allows(program: Program) -> None:
    service = one(program, "service")
    assert service["desiredCount"] == 2
    assert service["deploymentMaximumPercent"] == 100
    assert service["deploymentMinimumHealthyPercent"] == 50
    assert service["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    assert service["waitForSteadyState"] is True
    assert service["enableExecuteCommand"] is False
    assert service["networkConfiguration"]["assignPublicIp"] is False
    assert service["networkConfiguration"]["securityGroups"] == ["application-id", "access-id"]


def test_the_bootstrap_task_runs_before_the_service_and_names_the_migrations(program: Program) -> None:
    run = one(program, "task run")
    assert "0001_row_versions" in run["migrations"]
    assert run["security_groups"] == ["application-id"]
    order = [r.name for r in program.resources if r.type in (TYPES["task run"], TYPES["service"])]
    assert order == ["bootstrap", "access"]


def bootstrapped(program: Program, folder: Path) -> OpsError:
    """Run the task's command with an image whose migrations are in `folder`, up to the secret that does not exist."""
    name, *arguments = container(program, "bootstrap")["command"]
    assert name == "bootstrap"
    variables = environment(program, "bootstrap") | {"GROUNDWORK_ADMIN_SECRET": "none"}
    result = CliRunner().invoke(bootstrap, [*arguments, "--folder", str(folder)], env=variables)
    assert isinstance(result.exception, OpsError), result.output
    return result.exception


def test_the_bootstrap_task_refuses_an_image_with_other_migrations(program: Program, tmp_path: Path) -> None:
    assert "is not the ARN of a secret" in str(bootstrapped(program, MIGRATIONS_FOLDER))
    folder = shutil.copytree(MIGRATIONS_FOLDER, tmp_path / "migrations")
    *_, newest = read_source(folder)
    newest.up.path.write_text("SELECT 1")
    refused = bootstrapped(program, folder)
    assert f"other migrations than the checkout that runs `up`, although both have {newest.name}" in str(
        refused
    )
    newest.up.path.unlink()
    refused = bootstrapped(program, folder)
    assert f"the image lacks {newest.name}" in str(refused)
    assert refused.exit_code == Exit.MISMATCH


def test_the_image_contains_the_migrations_folder_of_the_settings(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(MIGRATIONS_FOLDER, folder)
    root = Checkout.here().root
    assert aws_access_digest(root, "arm64", "", str(folder)) == aws_access_digest(root, "arm64", "")
    (folder / "9999_own.sql").write_text("SELECT 1")
    own = run_aws_program(tmp_path / "state", migrationsFolder=str(folder), awsAccessArchitecture="arm64")
    (image,) = own.of_type(PUSHED).values()
    assert image.inputs["digest"] == aws_access_digest(root, "arm64", "", str(folder))
    assert image.inputs["digest"] != aws_access_digest(root, "arm64", "")
    assert image.inputs["migrations"] == str(folder)
    assert "is not the ARN of a secret" in str(bootstrapped(own, folder))


def test_another_file_with_the_authorities_of_rds_makes_another_image(
    program: Program, tmp_path: Path
) -> None:
    given = tmp_path / "rds.pem"
    given.write_text(make_authority("rds of a test").certificate)
    own = run_aws_program(tmp_path / "state", awsRdsCaFile=str(given))
    images = [next(iter(each.of_type(PUSHED).values())).inputs["digest"] for each in (program, own)]
    assert images[0] != images[1]
    root = Checkout.here().root
    before = aws_access_digest(root, "arm64", "", rds_file=given)
    given.write_text(make_authority("rds of a later test").certificate)
    assert aws_access_digest(root, "arm64", "", rds_file=given) != before
    given.unlink()
    with pytest.raises(InfraError, match=r"cannot read .*rds\.pem"):
        run_aws_program(tmp_path / "other", awsRdsCaFile=str(given))


def policies_of(program: Program, task: str) -> set[str]:
    return {
        r.inputs["policyArn"].rpartition(":")[2]
        for r in program.of_type(TYPES["attachment"]).values()
        if r.name.startswith(f"{task}-")
    }


def test_each_task_has_its_own_role_with_the_needed_permissions(program: Program) -> None:
    assert policies_of(program, "access") == {"login-app"}
    assert policies_of(program, "bootstrap") == {"admin-secret", "login-migrator"}
    roles = {one(program, "task", task)["taskRoleArn"] for task in TASKS}
    assert len(roles) == 2
    assert one(program, "task", "access")["executionRoleArn"] not in roles


@promise("on AWS no policy allows everything, and each login policy is for one role")
def test_a_login_policy_allows_one_role_on_this_stacks_servers(program: Program) -> None:
    for role in outputs.ROLES:
        with in_case(role):
            login, user = outputs.ROLES[role]
            found = {
                s["Action"]: s["Resource"]
                for s in document(one(program, "policy", f"login-{role}")["policy"])
            }
            names = [each.name for each in LOGINS[login]] if login else []
            assert found.get("rds-db:connect", []) == [
                f"arn:aws:rds-db:eu-central-1:123456789012:dbuser:{instance}/{name}"
                for instance in ("db-POSTGRES", "db-POSTGRES-REPLICA-1")
                for name in names
            ]
            assert found.get("elasticache:Connect", []) == (
                [
                    "arn:aws:elasticache:eu-central-1:123456789012:replicationgroup:groundwork-unit",
                    f"arn:aws:elasticache:eu-central-1:123456789012:user:groundwork-unit-{user}",
                ]
                if user
                else []
            )


def test_only_the_bootstrap_task_may_read_the_administrators_secret(
    program: Program, existing_vpc: Program
) -> None:
    # With replicas the secret belongs to the stack.
    for stack, secret in ((existing_vpc, ":secret:rds!db-postgres"), (program, ":postgres-admin")):
        statements = document(one(stack, "policy", "admin-secret")["policy"])
        assert [s["Action"] for s in statements] == ["secretsmanager:GetSecretValue", "kms:Decrypt"]
        assert statements[0]["Resource"].endswith(secret)
        assert environment(stack, "bootstrap")["GROUNDWORK_ADMIN_SECRET"] == statements[0]["Resource"]
        assert "GROUNDWORK_ADMIN_SECRET" not in environment(stack, "access")


@promise("on AWS no policy allows everything, and each login policy is for one role")
def test_no_policy_allows_everything(program: Program) -> None:
    texts = [
        text
        for kind in ("policy", "role policy")
        for resource in program.of_type(TYPES[kind]).values()
        for text in all_texts(resource.inputs)
        if text.startswith("{")
    ]
    assert texts
    for statement in (statement for text in texts for statement in document(text)):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if action.endswith("*")], statement
        # This action cannot be restricted to a repository.
        assert statement["Resource"] != "*" or actions == ["ecr:GetAuthorizationToken"], statement


def test_tags_in_the_repository_are_immutable(program: Program) -> None:
    repository = one(program, "repository")
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    (encryption,) = repository["encryptionConfigurations"]
    assert encryption["encryptionType"] == "KMS"
    assert encryption["kmsKey"].endswith(":operations")


def test_the_service_name_reports_the_health_of_tasks_and_can_be_deleted(program: Program) -> None:
    (name,) = program.of_type("aws:servicediscovery/service:Service").values()
    assert name.inputs["healthCheckCustomConfig"] == {"failureThreshold": 1}
    # ECS deregisters its tasks with a delay.
    assert name.inputs["forceDestroy"] is True

"""The administrator login of `groundwork bootstrap` on RDS, from Secrets Manager (moto). Passwords are never shown."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import boto3
import psycopg
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from ops.bootstrap import AdministratorLogin, _is_refused_token
from ops.errors import Exit, OpsError
from tests.cases import in_case

REGION = "eu-central-1"
CANARY = "canary-7f3a9c"
GONE = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:rds!db-gone"


@pytest.fixture(scope="module")
def kept() -> Iterator[Callable[[str], str]]:
    """Return kept(text), which stores the text in a secret and returns its ARN."""
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        client = boto3.client("secretsmanager", region_name=REGION)
        yield lambda text: str(
            client.create_secret(Name=f"postgres-admin-{next(numbers)}", SecretString=text)["ARN"]
        )


def test_secrets_of_rds_and_of_the_stack_are_read(kept: Callable[[str], str]) -> None:
    arn = kept(json.dumps({"username": "groundwork_admin", "password": CANARY}))
    found = AdministratorLogin.from_secret(arn)
    assert found == AdministratorLogin("groundwork_admin", CANARY)
    assert CANARY not in repr(found)


@pytest.mark.parametrize("text", [CANARY, json.dumps({"password": CANARY}), json.dumps([CANARY]), "null"])
def test_a_secret_with_other_content_is_named_but_not_shown(kept: Callable[[str], str], text: str) -> None:
    arn = kept(text)
    with pytest.raises(OpsError) as refusal:
        AdministratorLogin.from_secret(arn)
    assert arn in str(refusal.value)
    assert "does not contain a username and a password" in str(refusal.value)
    assert CANARY not in str(refusal.value)


def test_missing_secret_is_reported_with_the_error_of_aws(kept: Callable[[str], str]) -> None:
    with pytest.raises(OpsError, match=r"cannot read .* \(ResourceNotFoundException\); see docs/aws\.md"):
        AdministratorLogin.from_secret(GONE)


class Refusals:
    """A Secrets Manager that refuses the first requests, as IAM does before a new policy counts."""

    def __init__(self, refusals: int, code: str) -> None:
        self.left, self.code = refusals, code

    def get_secret_value(self, SecretId: str) -> dict[str, str]:
        if self.left:
            self.left -= 1
            raise ClientError({"Error": {"Code": self.code, "Message": "not authorized"}}, "GetSecretValue")
        return {"SecretString": json.dumps({"username": "groundwork_admin", "password": CANARY})}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Refusals]:
    def serve(refusals: int, code: str = "AccessDeniedException") -> Refusals:
        made = Refusals(refusals, code)
        monkeypatch.setattr(boto3, "client", lambda *_, **__: made)
        monkeypatch.setattr("ops.bootstrap._IAM_PAUSE_SECONDS", 0)
        return made

    return serve


def test_a_refused_read_is_repeated_until_the_policy_is_in_effect(secrets: Callable[..., Refusals]) -> None:
    server = secrets(3)
    assert AdministratorLogin.from_secret(GONE).password == CANARY
    assert server.left == 0


@pytest.mark.parametrize(("code", "wait"), [("AccessDeniedException", -1), ("ResourceNotFoundException", 60)])
def test_a_permanent_refusal_and_another_error_are_reported(
    secrets: Callable[..., Refusals], code: str, wait: float
) -> None:
    server = secrets(2, code)
    with pytest.raises(OpsError, match=rf"\({code}\); see docs/aws\.md"):
        AdministratorLogin.from_secret(GONE, wait)
    assert server.left == 1


def test_a_refused_token_is_temporary_and_an_unreachable_server_is_not() -> None:
    refused = psycopg.OperationalError('FATAL:  PAM authentication failed for user "migrator"')
    closed = psycopg.OperationalError("connection refused")
    assert [_is_refused_token(error) for error in (refused, closed, ValueError())] == [True, False, False]


def test_invalid_secret_arn_is_a_usage_error() -> None:
    for arn in ("", "postgres-admin", "arn:aws:s3:::bucket"):
        with in_case(arn):
            with pytest.raises(OpsError, match="is not the ARN of a secret") as refusal:
                AdministratorLogin.from_secret(arn)
            assert refusal.value.exit_code == Exit.USAGE


def test_an_unreachable_secrets_manager_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OpsError, match="cannot reach") as refusal:
        AdministratorLogin.from_secret(GONE)
    assert refusal.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(refusal.value)

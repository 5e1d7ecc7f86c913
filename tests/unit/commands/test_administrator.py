"""Whom `groundwork bootstrap` logs in as on RDS: read from Secrets Manager, against moto; no password is ever said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import boto3
import pytest
from moto import mock_aws

from ops.bootstrap import Administrator
from ops.errors import Exit, OpsError

REGION = "eu-central-1"
CANARY = "canary-7f3a9c"
GONE = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:rds!db-gone"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """kept(text): the ARN of a secret of an account that holds the text."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("secretsmanager", region_name=REGION)
        yield lambda text: str(client.create_secret(Name="postgres-admin", SecretString=text)["ARN"])


def test_it_is_as_rds_and_the_stack_keep_it(kept: Callable[[str], str]) -> None:
    arn = kept(json.dumps({"username": "groundwork_admin", "password": CANARY}))
    found = Administrator.from_secret(arn)
    assert found == Administrator("groundwork_admin", CANARY)
    assert CANARY not in repr(found)


@pytest.mark.parametrize("text", [CANARY, json.dumps({"password": CANARY}), json.dumps([CANARY]), "null"])
def test_a_secret_that_holds_something_else_is_named_and_not_shown(
    kept: Callable[[str], str], text: str
) -> None:
    arn = kept(text)
    with pytest.raises(OpsError) as refusal:
        Administrator.from_secret(arn)
    assert arn in str(refusal.value)
    assert "no username and password" in str(refusal.value)
    assert CANARY not in str(refusal.value)


def test_one_that_is_not_there_is_told_with_what_aws_says(kept: Callable[[str], str]) -> None:
    with pytest.raises(OpsError, match=r"not to be read \(ResourceNotFoundException\); see docs/aws\.md"):
        Administrator.from_secret(GONE)


@pytest.mark.parametrize("arn", ["", "postgres-admin", "arn:aws:s3:::bucket"])
def test_what_is_no_secrets_arn_is_a_mistake_of_usage(arn: str) -> None:
    with pytest.raises(OpsError, match="no secret's ARN") as refusal:
        Administrator.from_secret(arn)
    assert refusal.value.exit_code == Exit.USAGE


def test_a_secrets_manager_that_is_away_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OpsError, match="not to be reached") as refusal:
        Administrator.from_secret(GONE)
    assert refusal.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(refusal.value)

"""`groundwork bootstrap` as the AWS task runs it: with environment variables, and the password in Secrets Manager."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from db.migrator import read_source
from infra.spec import rds, roles
from ops.errors import Exit
from tests.containers import Server
from tests.faults.dying_operator import run_until
from tests.integration.bootstrap.conftest import url_of
from tests.integration.bootstrap.test_bootstrap import LIMITS
from tests.promises import promise
from tests.scale import IS_FULL

REGION = "eu-central-1"
KILLED = -9
# The numbers of exchanges with Postgres after which it is killed: during roles and database, then during migrations.
STEPS = range(1, 150) if IS_FULL else [2, 6, 15, 60]


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """Environment variables that make boto3 use a local AWS server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
    }
    server.stop()


@pytest.fixture
def secret(rds_server: Server, aws: dict[str, str]) -> Iterator[str]:
    client: Any = boto3.client(
        "secretsmanager",
        region_name=REGION,
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    content = {"username": rds.ADMIN, "password": rds_server.passwords[rds.ADMIN]}
    arn = client.create_secret(Name="rds!db-1", SecretString=json.dumps(content))["ARN"]
    yield arn
    client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    client.close()


def groundwork(
    aws: dict[str, str], server: Server, kill_after: int = 0, /, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "DATABASE_URL": url_of(server, "migrator"),
        "GROUNDWORK_DATABASE_LOGIN": "iam",
        "GROUNDWORK_CONNECTION_LIMITS": json.dumps(LIMITS),
    }
    return run_until("postgres", kill_after, "bootstrap", **(aws | environment | more))


def test_it_brings_the_database_up_and_shows_no_password(
    rds_server: Server, aws: dict[str, str], secret: str
) -> None:
    done = groundwork(aws, rds_server, GROUNDWORK_ADMIN_SECRET=secret)
    assert done.returncode == Exit.FINE, done.stderr
    assert done.stdout.splitlines()[0] == (
        f"database: localhost:{rds_server.port}/{roles.DATABASE} as migrator, from DATABASE_URL"
    )
    assert "database groundwork: created" in done.stdout
    assert "applied 0001_row_versions" in done.stdout
    assert rds_server.passwords[rds.ADMIN] not in done.stdout + done.stderr


@promise("the next bootstrap completes one that was killed at any exchange with the server")
@pytest.mark.parametrize("step", STEPS)
def test_a_bootstrap_killed_after_any_exchange_is_completed_by_the_next(
    rds_server: Server, aws: dict[str, str], secret: str, step: int
) -> None:
    killed = groundwork(aws, rds_server, step, GROUNDWORK_ADMIN_SECRET=secret)
    assert killed.returncode == KILLED or (killed.returncode == Exit.FINE and step > 60), killed.stderr
    done = groundwork(aws, rds_server, GROUNDWORK_ADMIN_SECRET=secret)
    assert done.returncode == Exit.FINE, done.stderr
    ledger = f"SELECT count(*), bool_and(success) FROM {roles.SCHEMA}._sqlx_migrations"
    assert rds_server.psql(ledger, roles.DATABASE).strip() == f"{len(read_source())}|t"
    again = groundwork(aws, rds_server, GROUNDWORK_ADMIN_SECRET=secret)
    assert again.stdout.splitlines()[-2:] == ["migrations: nothing pending", "partitions: nothing to create"]


def test_missing_or_invalid_settings_are_reported_in_one_line(
    rds_server: Server, aws: dict[str, str], secret: str
) -> None:
    unknown = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:none"
    for name, value, code, said in (
        ("GROUNDWORK_ADMIN_SECRET", "mine", Exit.USAGE, "'mine' is not the ARN of a secret"),
        ("GROUNDWORK_ADMIN_SECRET", unknown, Exit.ERROR, "ResourceNotFoundException"),
        (
            "GROUNDWORK_CONNECTION_LIMITS",
            '{"app": 1}',
            Exit.USAGE,
            "must give a limit for each of app, readonly",
        ),
        ("GROUNDWORK_DATABASE_LOGIN", "token", Exit.USAGE, "write password or iam"),
    ):
        done = groundwork(aws, rds_server, **({"GROUNDWORK_ADMIN_SECRET": secret} | {name: value}))
        assert (done.returncode, said in done.stderr) == (code, True), (name, value, done.stderr)
        assert "Traceback" not in done.stderr

"""Runs of the AWS program, once per test module: with the default settings, and in an existing VPC."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.infra.aws.program import BACKUP_KEY, EXISTING_VPC, run_aws_program
from tests.unit.infra.program import Program


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return run_aws_program(
        tmp_path_factory.mktemp("state"), postgresReplicas="1", awsAlarmEmail="ops@example.com"
    )


@pytest.fixture(scope="session")
def existing_vpc(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return run_aws_program(
        tmp_path_factory.mktemp("state"),
        **EXISTING_VPC,
        awsRouteTables="rtb-00000001",
        awsAlarmTopic="arn:aws:sns:eu-central-1:123456789012:existing",
        awsBackupCopyKey=BACKUP_KEY,
        awsAccessImage=f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/built@sha256:{'1' * 64}",
    )


@pytest.fixture(scope="session")
def own_way_out(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program in an existing VPC that has its own route to AWS's services."""
    return run_aws_program(tmp_path_factory.mktemp("state"), **EXISTING_VPC, awsVpcEndpoints="false")


@pytest.fixture(scope="session")
def unprotected(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program without protection of data."""
    return run_aws_program(Path(tmp_path_factory.mktemp("state")), protectData="false")


@pytest.fixture(scope="session")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program with a permissions boundary."""
    return run_aws_program(
        tmp_path_factory.mktemp("state"), awsPermissionsBoundary="ci-groundwork-boundary-unit"
    )

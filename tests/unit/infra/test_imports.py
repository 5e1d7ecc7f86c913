"""A stack on Docker does not import AWS's Pulumi package, and a stack on AWS does not import Docker's."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("infra.docker.stack", ("pulumi_aws", "boto3", "botocore")),
        ("infra.aws.stack", ("pulumi_docker", "boto3", "botocore")),
        ("ops.serve.app", ("pulumi", "boto3", "botocore")),
    ],
)
def test_a_targets_package_is_imported_only_for_that_target(imported: str, absent: tuple[str, ...]) -> None:
    program = f"import sys, {imported}; print(*sorted(set(sys.modules) & set({absent!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

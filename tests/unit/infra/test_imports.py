"""Every `up` starts several processes. None of them imports a package that it does not use.

A stack on Docker does not import AWS's Pulumi package, and a stack on AWS does not import Docker's.
"""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("infra.docker.stack", ("pulumi_aws", "boto3", "botocore", "psycopg", "cryptography")),
        # The dynamic providers of a stack on Docker.
        ("infra.docker.container", ("pulumi_docker",)),
        ("db.migrator", ("psycopg",)),
        ("infra.aws.stack", ("pulumi_docker", "boto3", "botocore")),
        ("ops.serve.app", ("pulumi", "boto3", "botocore")),
    ],
)
def test_a_package_is_imported_only_where_it_is_used(imported: str, absent: tuple[str, ...]) -> None:
    program = f"import sys, {imported}; print(*sorted(set(sys.modules) & set({absent!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

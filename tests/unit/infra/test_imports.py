"""Every `up` starts several processes. None of them imports a package that it does not use.

A stack on Docker does not import AWS's Pulumi package, and a stack on AWS does not import Docker's.
"""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "imports",
    # Each list is imported by one process, in this order, because starting Python takes most of the time.
    [
        [
            ("db.migrator", ("psycopg",)),
            ("infra.docker.stack", ("pulumi_aws", "boto3", "botocore", "psycopg", "cryptography")),
        ],
        [
            ("ops.serve.app", ("pulumi", "boto3", "botocore")),
            # The dynamic providers of a stack on Docker.
            ("infra.docker.container", ("pulumi_docker",)),
            ("infra.aws.stack", ("pulumi_docker", "boto3", "botocore")),
        ],
    ],
    ids=["a stack on Docker", "the others"],
)
def test_a_package_is_imported_only_where_it_is_used(imports: list[tuple[str, tuple[str, ...]]]) -> None:
    program = "import sys\n" + "".join(
        f"import {imported}; print('{imported}', *sorted(set(sys.modules) & set({absent!r})))\n"
        for imported, absent in imports
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [imported for imported, _ in imports]

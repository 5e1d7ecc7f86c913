"""A stack on AWS with the real engine, the real provider, and moto instead of AWS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.aws.conftest import SETTINGS, AwsCheckout
from tests.infra.aws_provider import provider
from tests.infra.checkout import ROOT, CheckoutCopy


@pytest.fixture(scope="session")
def plugins() -> Path:
    """Return the folder with the provider."""
    if (folder := provider.find()) is None:
        pytest.skip("the real AWS provider is not in the cache; run `make aws-provider`")
    return folder


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file with the actions that were requested, like `rds:CreateDBInstance`."""
    return tmp_path_factory.mktemp("moto") / "actions"


@pytest.fixture(scope="module")
def endpoint(actions: Path) -> Iterator[str]:
    """Start moto in a separate process, because its extensions replace parts of moto. Yield its URL."""
    command = [sys.executable, "-m", "tests.infra.aws_provider.moto_server", str(actions)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@pytest.fixture(scope="module")
def checkout(plugins: Path, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> AwsCheckout:
    copy = CheckoutCopy.copy_to(tmp_path_factory.mktemp("aws-provider"))
    # Without the setting, the program uses a repository in ECR, in which moto always has the image.
    base = {key: value for key, value in SETTINGS.items() if key != "groundwork:awsAccessImage"}
    made = AwsCheckout(copy.root, copy.state, plugins, endpoint, base)
    made.settings()
    return made

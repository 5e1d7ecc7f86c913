"""A stack on AWS through the real engine: an echo provider in AWS's place, and an ECS of the tests' own.

State, settings and plugin are of this run alone. Nothing leaves the machine: boto3 is led to a server on 127.0.0.1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aws_outputs import ACCOUNT, REGION
from tests.infra import echo_provider
from tests.infra.aws.fake_aws import FakeAws, fake_aws
from tests.infra.checkout import Checkout

STACK = "prod"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/access@sha256:{'1' * 64}"
SETTINGS = {
    "target": "aws",
    "protectData": "true",
    "awsRegion": REGION,
    "awsAccessImage": IMAGE,
}


@dataclass(frozen=True)
class AwsCheckout(Checkout):
    """A checkout whose stack `prod` is on an AWS that is not there."""

    plugins: Path = Path()
    endpoint: str = ""

    def settings(self, **values: object) -> None:
        config = {f"groundwork:{key}": value for key, value in (SETTINGS | values).items()}
        (self.root / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            # The engine finds a plugin on PATH before it looks for one that is installed, or fetches it.
            "PATH": f"{self.plugins}{os.pathsep}{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "GROUNDWORK_ECS_POLL_SECONDS": "0.1",
        }

    def preview(self) -> dict[str, Any]:
        """The engine's own account of what `up` would do."""
        found: dict[str, Any] = json.loads(self.succeed("preview", "--stack", STACK, "--json"))
        return found


def changes(preview: dict[str, Any]) -> dict[str, list[str]]:
    """Operation -> names, without what stays as it is."""
    found: dict[str, list[str]] = {}
    for step in preview["steps"]:
        if step["op"] not in ("same", "read"):
            found.setdefault(step["op"], []).append(step["urn"].rpartition("::")[2])
    return found


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    with fake_aws() as fake:
        yield fake


@pytest.fixture(scope="module")
def checkout(aws: FakeAws, tmp_path_factory: pytest.TempPathFactory) -> AwsCheckout:
    folder = tmp_path_factory.mktemp("aws")
    plugins = folder / "plugins"
    echo_provider.install(plugins)
    copy = Checkout.copy_to(folder)
    made = AwsCheckout(copy.root, copy.state)
    made = replace(made, plugins=plugins, endpoint=aws.url)
    made.settings()
    return made

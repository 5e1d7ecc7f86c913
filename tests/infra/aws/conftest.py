"""A stack on AWS with the real engine, an echo provider instead of AWS, and a fake ECS.

State, settings and plugin exist only for this run. Nothing leaves the machine: boto3 calls a server on 127.0.0.1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.stack.pulumi_stack import PulumiStack
from tests.aws_outputs import ACCOUNT, REGION
from tests.infra import echo_provider
from tests.infra.aws import echo_rds
from tests.infra.aws.fake_aws import FakeAws, fake_aws
from tests.infra.checkout import ROOT, CheckoutCopy

STACK = "prod"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/access@sha256:{'1' * 64}"
# Production's settings, and an image that does not have to be built.
SETTINGS = yaml.safe_load((ROOT / f"Pulumi.{STACK}.yaml").read_text())["config"] | {
    "groundwork:awsRegion": REGION,
    "groundwork:awsAccessImage": IMAGE,
}


@dataclass(frozen=True)
class AwsCheckout(CheckoutCopy):
    """A checkout whose stack `prod`, with the settings of production, is on the fake AWS."""

    plugins: Path = Path()
    endpoint: str = ""
    base: Mapping[str, object] = field(default_factory=lambda: SETTINGS)

    def settings(self, **values: object) -> None:
        config = {**self.base} | {f"groundwork:{key}": value for key, value in values.items()}
        (self.root / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            # The engine prefers a plugin on PATH to an installed one, and downloads none.
            "PATH": f"{self.plugins}{os.pathsep}{os.environ['PATH']}",
            "GROUNDWORK_ECS_POLL_SECONDS": "0.1",
            **variables_of(self.endpoint),
        }

    def preview(self) -> dict[str, Any]:
        """Return the engine's JSON preview of an `up`."""
        found: dict[str, Any] = json.loads(self.succeed("preview", "--stack", STACK, "--json"))
        return found

    def protected(self) -> list[str]:
        """Return the URNs of the resources that Pulumi refuses to delete."""
        resources = PulumiStack(self.identity, STACK).resources()
        return [str(each["urn"]) for each in resources if each.get("protect")]

    def waive(self, rules: Mapping[str, Iterable[str]]) -> None:
        """Overwrite the stack's waivers with these, of URN -> rules, until tomorrow."""
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        waivers = [
            {"urn": urn, "rules": list(names), "reason": "a test", "expires": tomorrow}
            for urn, names in rules.items()
        ]
        path = self.root / "infra" / "policy" / "waivers" / f"{STACK}.yaml"
        path.write_text(yaml.safe_dump({"waivers": waivers}))


def variables_of(endpoint: str) -> dict[str, str]:
    """Return the variables with which programs and the echo provider use a fake AWS."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        echo_rds.ENABLED: "1",
    }


def changes(preview: dict[str, Any]) -> dict[str, list[str]]:
    """Return operation -> names, without unchanged resources."""
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
def checkout(aws: FakeAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsCheckout]:
    folder = tmp_path_factory.mktemp("aws")
    plugins = folder / "plugins"
    copy = CheckoutCopy.copy_to(folder)
    made = AwsCheckout(copy.root, copy.state)
    made = replace(made, plugins=plugins, endpoint=aws.url)
    made.settings()
    with echo_provider.installed(plugins, **variables_of(aws.url)):
        yield made

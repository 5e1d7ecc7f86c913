"""The state of stacks in S3, its secrets under a KMS key: Pulumi itself, over moto in AWS's place."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ops.errors import Exit, OpsError
from ops.pulumi_stack import PulumiStack
from ops.toolchain import passphrase, pulumi_cli
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_environment import environment
from ops.toolchain.stack_init import ensure as ensure_stack
from ops.toolchain.state_backend import SECRETS_PROVIDER, URL
from tests.infra.checkout import ROOT, Checkout

BUCKET, STACK, REGION = "states", "staging", "us-east-1"
CANARY = "canary-4e1b77"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket and a key; the endpoint's URL. Every process that is started finds them by its environment."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        for name, value in {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        # Servers of one process share what they hold.
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        kms = boto3.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/states", TargetKeyId=key)
        monkeypatch.setenv(URL, f"s3://{BUCKET}?region={REGION}&endpoint={url}&s3ForcePathStyle=true")
        monkeypatch.setenv(SECRETS_PROVIDER, f"awskms:///alias/states?region={REGION}")
        yield url
    finally:
        server.stop()


def checkout_in(folder: Path) -> Checkout:
    """A copy of the checkout with the file of a stack on AWS, and a toolchain."""
    folder.mkdir()
    copy = Checkout.copy_to(folder)
    shutil.copy2(ROOT / f"Pulumi.{STACK}.yaml", copy.root)
    passphrase.ensure(copy.world)
    copy.world.backend_dir.mkdir(exist_ok=True, mode=0o700)
    pulumi_cli.ensure(copy.world, Progress())
    return copy


def pulumi(copy: Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pulumi", *arguments, "--stack", STACK, "--non-interactive"],
        cwd=copy.root, env=environment(copy.world), capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip


def objects() -> dict[str, bytes]:
    s3 = boto3.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {each["Key"]: s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in listed}


def test_a_stack_is_made_in_the_bucket_once_and_found_by_another_checkout(aws: str, tmp_path: Path) -> None:
    first = checkout_in(tmp_path / "first")
    stack = PulumiStack(first.world, STACK)
    assert not stack.exists
    ensure_stack(first.world, STACK)
    made = objects()
    assert f".pulumi/stacks/groundwork/{STACK}.json" in made
    assert not list(first.world.backend_dir.rglob("*.json"))
    ensure_stack(first.world, STACK)
    assert objects() == made
    # Without what the first one wrote into the stack's file.
    second = checkout_in(tmp_path / "second")
    ensure_stack(second.world, STACK)
    assert PulumiStack(second.world, STACK).exists
    assert objects() == made
    with pytest.raises(OpsError, match="is not up") as refused:
        PulumiStack(second.world, STACK).outputs()
    assert refused.value.exit_code == Exit.UNREACHABLE


def test_a_secret_is_sealed_by_the_key_and_opened_by_whoever_has_it(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = checkout_in(tmp_path / "first")
    ensure_stack(copy.world, STACK)
    assert pulumi(copy, "config", "set", "--secret", "probe", CANARY).returncode == 0
    text = (copy.root / f"Pulumi.{STACK}.yaml").read_text()
    assert "secretsprovider: awskms://" in text
    assert CANARY not in text
    assert not any(CANARY.encode() in content for content in objects().values())
    # No passphrase opens it: this one is nobody's.
    copy.world.passphrase_file.write_text("another")
    assert pulumi(copy, "config", "get", "probe").stdout.strip() == CANARY
    # The control: who does not get to the key opens nothing.
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    assert pulumi(copy, "config", "get", "probe").returncode != 0


def test_a_stack_in_docker_is_refused_there(aws: str, tmp_path: Path) -> None:
    copy = checkout_in(tmp_path / "first")
    with pytest.raises(OpsError, match=f"unset {URL}") as refused:
        PulumiStack(copy.world, "dev").prepare()
    assert refused.value.exit_code == Exit.USAGE
    assert objects() == {}


def test_a_bucket_that_is_not_reached_is_6(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = checkout_in(tmp_path / "first")
    monkeypatch.setenv(URL, f"s3://nowhere?region={REGION}&endpoint={aws}&s3ForcePathStyle=true")
    with pytest.raises(OpsError, match="is not reached") as refused:
        ensure_stack(copy.world, STACK)
    assert refused.value.exit_code == Exit.UNREACHABLE

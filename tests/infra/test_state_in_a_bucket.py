"""The state of stacks in S3 and its secrets under a KMS key, with the real Pulumi and moto instead of AWS."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.errors import Exit, OpsError
from ops.stack.pulumi_stack import PulumiStack
from ops.toolchain import passphrase, pulumi_cli
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_environment import environment
from ops.toolchain.stack_init import ensure as ensure_stack
from ops.toolchain.state_backend import SECRETS_PROVIDER, URL
from tests.infra.checkout import ROOT, CheckoutCopy
from tests.promises import promise

BUCKET, STACK, REGION = "states", "staging", "us-east-1"
CANARY = "canary-4e1b77"


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """Create a bucket and a key, and yield the endpoint's URL. Child processes find them through their environment."""
    # Importing these two takes longer than all other imports of the tests, and every worker imports this file.
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    monkeypatch = pytest.MonkeyPatch()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        for name, value in {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        # Moto servers of one process share their data.
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        kms = boto3.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/states", TargetKeyId=key)
        monkeypatch.setenv(URL, f"s3://{BUCKET}?region={REGION}&endpoint={url}&s3ForcePathStyle=true")
        monkeypatch.setenv(SECRETS_PROVIDER, f"awskms:///alias/states?region={REGION}")
        yield url
    finally:
        monkeypatch.undo()
        server.stop()


@pytest.fixture(scope="module")
def first(aws: str, tmp_path_factory: pytest.TempPathFactory) -> CheckoutCopy:
    """Return a checkout whose stack does not exist before the first test creates it."""
    return checkout_in(tmp_path_factory.mktemp("bucket") / "first")


def checkout_in(folder: Path) -> CheckoutCopy:
    """Return a copy of the checkout with the settings file of a stack on AWS, and a toolchain."""
    folder.mkdir()
    copy = CheckoutCopy.copy_to(folder)
    shutil.copy2(ROOT / f"Pulumi.{STACK}.yaml", copy.root)
    passphrase.ensure(copy.identity)
    copy.identity.backend_dir.mkdir(exist_ok=True, mode=0o700)
    pulumi_cli.ensure(copy.identity, Progress())
    return copy


def pulumi(copy: CheckoutCopy, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pulumi", *arguments, "--stack", STACK, "--non-interactive"],
        cwd=copy.root, env=environment(copy.identity), capture_output=True, text=True, check=False, timeout=550,
    )  # fmt: skip


def objects() -> dict[str, bytes]:
    import boto3

    s3 = boto3.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {each["Key"]: s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in listed}


@promise("a stack is created in the bucket once, and another checkout finds it")
def test_stack_is_created_in_the_bucket_once_and_found_by_another_checkout(
    first: CheckoutCopy, tmp_path: Path
) -> None:
    stack = PulumiStack(first.identity, STACK)
    assert not stack.exists
    ensure_stack(first.identity, STACK)
    made = objects()
    assert f".pulumi/stacks/groundwork/{STACK}.json" in made
    assert not list(first.identity.backend_dir.rglob("*.json"))
    ensure_stack(first.identity, STACK)
    assert objects() == made
    # Without the lines that the first checkout wrote to the stack's settings file.
    second = checkout_in(tmp_path / "second")
    ensure_stack(second.identity, STACK)
    assert PulumiStack(second.identity, STACK).exists
    assert objects() == made
    with pytest.raises(OpsError, match="is not up") as refused:
        PulumiStack(second.identity, STACK).outputs()
    assert refused.value.exit_code == Exit.UNREACHABLE


@promise("the KMS key encrypts the secrets of a state in a bucket")
def test_secret_is_decrypted_only_with_access_to_the_key(
    first: CheckoutCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_stack(first.identity, STACK)
    assert pulumi(first, "config", "set", "--secret", "probe", CANARY).returncode == 0
    text = (first.root / f"Pulumi.{STACK}.yaml").read_text()
    assert "secretsprovider: awskms://" in text
    assert CANARY not in text
    assert not any(CANARY.encode() in content for content in objects().values())
    # A passphrase does not decrypt it.
    first.identity.passphrase_file.write_text("another")
    assert pulumi(first, "config", "get", "probe").stdout.strip() == CANARY
    # Negative control: without access to the key, the secret cannot be decrypted.
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    assert pulumi(first, "config", "get", "probe").returncode != 0


def test_docker_stack_with_its_state_in_a_bucket_is_refused(first: CheckoutCopy) -> None:
    before = objects()
    with pytest.raises(OpsError, match=f"unset {URL}") as refused:
        PulumiStack(first.identity, "dev").prepare()
    assert refused.value.exit_code == Exit.USAGE
    assert objects() == before


def test_unreachable_bucket_is_exit_code_6(
    aws: str, first: CheckoutCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"s3://nowhere?region={REGION}&endpoint={aws}&s3ForcePathStyle=true")
    with pytest.raises(OpsError, match="cannot read the state") as refused:
        ensure_stack(first.identity, STACK)
    assert refused.value.exit_code == Exit.UNREACHABLE

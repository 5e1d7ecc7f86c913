"""The access image for tasks on AWS: it is built, runs the tasks' commands, and is pushed once.

Where only the push is tested, a small image is used, because compressing the real one takes a minute.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.aws import pushing
from infra.aws.session import AwsError
from infra.certificates import make_authority
from infra.docker.engine import docker
from infra.images.build import build
from infra.images.context import aws_access_context, aws_access_digest
from infra.spec.checkout import Checkout
from tests.infra.aws.fake_aws import FakeAws, fake_aws
from tests.integration.access_image.registry import Registry, registry
from tests.promises import promise

ROOT = Path(__file__).parents[3]
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def kept() -> Iterator[Registry]:
    with registry() as found:
        yield found


@pytest.fixture(scope="module")
def aws(kept: Registry) -> Iterator[FakeAws]:
    with pytest.MonkeyPatch.context() as patch, fake_aws() as fake:
        # ECR's API reports what was pushed to the registry.
        fake.images = kept.digests
        patch.setenv("AWS_ENDPOINT_URL", fake.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield fake


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "rds.pem"
    path.write_text(make_authority("rds of a test").certificate)
    return str(path)


@pytest.fixture(scope="module")
def architecture(docker_engine: None) -> str:
    return docker("version", "--format", "{{.Server.Arch}}").strip()


def push(kept: Registry, architecture: str, ca_file: str) -> str:
    return pushing.push(
        Checkout.here(),
        region=REGION,
        repository_url=f"{kept.address}/groundwork-test-access",
        architecture=architecture,
        digest=aws_access_digest(ROOT, architecture, ""),
        refresh="",
        ca_file=ca_file,
        migrations="db/migrations",
    )


@pytest.fixture(scope="module")
def image(aws: FakeAws, architecture: str, ca_file: str) -> str:
    """The real image. Its tag stays, so that the engine keeps the layers for the next run."""
    context = aws_access_context(Checkout.here(), architecture, REGION, ca_file)
    tag = "groundwork-test/access-aws"
    build(context, tag)
    return tag


@pytest.fixture(scope="module")
def small_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    return folder


@pytest.fixture
def pushed(
    kept: Registry,
    aws: FakeAws,
    architecture: str,
    ca_file: str,
    small_context: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Push an image, and yield its reference."""
    monkeypatch.setattr(pushing, "aws_access_context", lambda *_: small_context)
    # The small image has no packages to list.
    monkeypatch.setattr(
        pushing, "build", lambda folder, tag, **_: docker("build", "--quiet", "--tag", tag, str(folder))
    )
    reference = push(kept, architecture, ca_file)
    yield reference
    (tag,) = kept.digests
    docker("rmi", f"{kept.address}/groundwork-test-access:{tag}")


def run(image: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image as Fargate does: read-only, without capabilities, as the image's user."""
    arguments = ["docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--user", "10030:10030"]
    return subprocess.run(
        [*arguments, "--init", "--entrypoint", command[0], image, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@promise(
    "the access image is pushed once, referenced by the registry's digest, and its push leaves no password behind"
)
def test_it_is_pushed_once_and_named_by_the_registrys_digest(
    pushed: str, kept: Registry, architecture: str, ca_file: str
) -> None:
    (digest,) = kept.digests.values()
    assert pushed == f"{kept.address}/groundwork-test-access@{digest}"
    (manifest,) = kept.manifests.values()
    assert {layer["digest"] for layer in manifest["layers"]} <= kept.blobs.keys()
    assert push(kept, architecture, ca_file) == pushed
    assert kept.pushes == 1
    # The registry's password is not left behind.
    found = Path.home() / ".docker" / "config.json"
    assert not found.exists() or "127.0.0.1" not in found.read_text()


def test_it_bootstraps_and_serves(image: str) -> None:
    for command in ("bootstrap", "serve"):
        done = run(image, "groundwork", command, "--help")
        assert done.returncode == 0, done.stderr
    done = run(image, "groundwork", "bootstrap", "--admin-secret", "mine", "--connection-limits", "{}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_it_signs_tokens_and_has_the_ca_certificates(image: str) -> None:
    program = """
import sys; sys.path[:0] = ["/opt/groundwork/source", "/opt/groundwork/site"]
import json, os, ssl
os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"}
from cache.settings import CacheSettings
from db.settings import DatabaseSettings
database = DatabaseSettings.from_environment({
    "DATABASE_URL": "postgresql://app_a@db:15432/groundwork?sslmode=verify-full",
    "GROUNDWORK_DATABASE_LOGIN": "iam"})
cache = CacheSettings.from_environment({
    "REDIS_URL": "rediss://u@c:6379/0", "GROUNDWORK_CACHE_LOGIN": "iam", "GROUNDWORK_REPLICATION_GROUP": "g"})
counts = {}
for name in ("rds-ca.pem", "elasticache-ca.pem"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(f"/etc/groundwork/{name}")
    counts[name] = len(context.get_ca_certs())
print(json.dumps([database.conninfo(), cache.credentials()[1], counts]))
"""
    done = run(image, "/usr/bin/python3", "-I", "-c", program)
    assert done.returncode == 0, done.stderr
    conninfo, token, counts = json.loads(done.stdout)
    assert "X-Amz-Signature" in conninfo
    assert token.startswith("g/?Action=connect&User=u")
    assert counts["rds-ca.pem"] == 1
    assert counts["elasticache-ca.pem"] > 50


@promise("the access image runs hardened and contains no secrets, compiler or pip")
def test_it_has_neither_pulumi_nor_pip(image: str) -> None:
    done = run(image, "/bin/sh", "-c", "ls /opt/groundwork/site; ls /opt/groundwork/source/infra")
    names = {line.split("-")[0] for line in done.stdout.split()}
    assert "boto3" in names
    assert not {"pulumi", "pip", "aws", "docker"} & names


def test_an_engine_of_another_architecture_is_reported(kept: Registry, aws: FakeAws, ca_file: str) -> None:
    with pytest.raises(AwsError, match="groundwork:awsAccessArchitecture is s390x"):
        push(kept, "s390x", ca_file)

"""Build the access image for AWS with the local Docker engine, and push it to ECR.

The registry's password is stored only in a temporary folder, and only during the push.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from infra.aws.session import AwsError, client, translated_errors
from infra.docker_command import DOCKER_OVERRIDES
from infra.images.build import build
from infra.images.context import aws_access_context
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError

_BUILD_SECONDS = 1200.0


def push(
    checkout: Checkout,
    *,
    region: str,
    repository_url: str,
    architecture: str,
    digest: str,
    refresh: str,
    ca_file: str,
    migrations: str,
) -> str:
    """Return the image's reference with the registry's digest. Build and push it if the repository lacks the tag."""
    ecr = client("ecr", region)
    tag = digest[:16]
    registry, _, name = repository_url.partition("/")
    if found := _digest_in(ecr, registry, name, tag):
        return f"{repository_url}@{found}"
    _require_architecture(architecture)
    context = aws_access_context(checkout, architecture, region, ca_file, migrations)
    image = f"{repository_url}:{tag}"
    with translated_errors("logging in to the registry"):
        answer = ecr.get_authorization_token()["authorizationData"][0]
    with tempfile.TemporaryDirectory(prefix="groundwork-registry-") as folder:
        _log_in(Path(folder), registry, answer["authorizationToken"])
        try:
            build(context, image, refresh=refresh)
        except InfraError as error:
            raise AwsError(str(error)) from error
        _docker(["push", "--quiet", image], config=folder)
    found = _digest_in(ecr, registry, name, tag)
    if found is None:
        raise AwsError(f"{image} was pushed, but the repository does not have it; run the same command again")
    return f"{repository_url}@{found}"


def _digest_in(ecr: Any, registry: str, name: str, tag: str) -> str | None:
    with translated_errors(f"looking for {name}:{tag} in the registry"):
        answer = ecr.batch_get_image(
            registryId=registry.split(".")[0], repositoryName=name, imageIds=[{"imageTag": tag}]
        )
    images = answer.get("images") or []
    return str(images[0]["imageId"]["imageDigest"]) if images else None


def _require_architecture(wanted: str) -> None:
    found = _docker(["version", "--format", "{{.Server.Arch}}"]).strip()
    if found != wanted:
        raise AwsError(
            f"this Docker engine builds for {found}, but groundwork:awsAccessArchitecture is {wanted};"
            f" set it to {found}, or build the image elsewhere and set groundwork:awsAccessImage"
        )


def _log_in(folder: Path, registry: str, token: str) -> None:
    """Write docker's credentials file, because `docker login` would make an additional request to the registry."""
    base64.b64decode(token, validate=True)
    path = folder / "config.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": {registry: {"auth": token}}}), encoding="utf-8")


def _docker(arguments: list[str], config: str | None = None) -> str:
    environment = os.environ | DOCKER_OVERRIDES | ({"DOCKER_CONFIG": config} if config else {})
    try:
        done = subprocess.run(
            ["docker", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILD_SECONDS,
        )
    except FileNotFoundError as error:
        raise AwsError(
            "docker, which builds the access image, is not on PATH; install it, or build the image elsewhere"
            " and set groundwork:awsAccessImage"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AwsError(
            f"`docker {arguments[0]}` did not finish within {_BUILD_SECONDS:.0f} s; run the same command again"
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise AwsError(f"`docker {arguments[0]}` failed: {' / '.join(said)}")
    return done.stdout

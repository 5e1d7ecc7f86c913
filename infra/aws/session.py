"""boto3 for the program's dynamic resources. It is imported when needed, and its errors are reported in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.spec.errors import InfraError


class AwsError(InfraError):
    """AWS refused a request, or cannot be reached."""


def client(service: str, region: str) -> Any:
    """Return a client for a service, with the credentials that boto3 finds."""
    try:
        import boto3
    except ImportError as error:
        raise AwsError(
            "boto3, which a stack on AWS needs, is not installed; run `make .venv` or `pip install -e '.[aws]'`"
        ) from error
    return boto3.client(service, region_name=region)


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Convert botocore's errors to AwsError. `what` describes the operation."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        reason = error.response.get("Error", {})
        raise AwsError(
            f"{what}: AWS says {reason.get('Code')}: {reason.get('Message')}; docs/aws.md lists the permissions"
        ) from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: cannot reach AWS: {error}") from error

"""boto3 for the program's dynamic resources: imported late, its errors told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.spec.errors import InfraError


class AwsError(InfraError):
    """AWS refused what was asked of it, or cannot be reached."""


def client(service: str, region: str) -> Any:
    """A client of a service, by the credentials that boto3 finds."""
    try:
        import boto3
    except ImportError as error:
        raise AwsError(
            "boto3 is not installed, which a stack on AWS needs; run `make .venv`, or pip install -e '.[aws]'"
        ) from error
    return boto3.client(service, region_name=region)


@contextmanager
def told(what: str) -> Iterator[None]:
    """The one place where botocore's errors become ours; `what` was being done."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        reason = error.response.get("Error", {})
        raise AwsError(
            f"{what}: AWS says {reason.get('Code')}: {reason.get('Message')}; docs/aws.md lists the permissions"
        ) from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: AWS is not to be reached: {error}") from error

"""AWS login tokens, signed locally with the AWS credentials of the process. Needs boto3, an optional dependency.

RDS accepts a token as a password over TLS. ElastiCache accepts a signed `connect` request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from cache.login_token import LoginTokens
from infra.spec.variables import variable as given

# How a login authenticates.
PASSWORD, IAM = "password", "iam"
_SECONDS = 900


def is_iam(variable: str, error: type[Exception], environment: Mapping[str, str] | None = None) -> bool:
    """Return whether the environment variable selects login tokens. Raises `error` for an invalid value."""
    value = given(variable, environment, error) or PASSWORD
    if value not in (PASSWORD, IAM):
        raise error(f"{variable} is {value!r}; write {PASSWORD} or {IAM}")
    return value == IAM


def postgres_tokens(error: type[Exception], region: str | None = None) -> LoginTokens:
    """Return a source of tokens for (host, port, user) on RDS. It raises `error` if none can be made.

    Without `region` it uses that of the process's AWS configuration.
    """
    signers: list[Any] = []

    def make(host: str, port: str, user: str) -> str:
        if not signers:
            session = _session(error)
            signers.append(session.client("rds", region_name=region or _region(session, error)))
        token: str = signers[0].generate_db_auth_token(DBHostname=host, Port=int(port), DBUsername=user)
        return token

    return LoginTokens(_translating_errors(make, error))


def redis_tokens(error: type[Exception], region: str | None = None) -> LoginTokens:
    """Return a source of tokens for (replication group, user) on ElastiCache, as `postgres_tokens` does."""
    signers: list[Any] = []

    def make(group: str, user: str) -> str:
        from botocore.model import ServiceId
        from botocore.signers import RequestSigner

        if not signers:
            session = _session(error)
            credentials, region_name = session.get_credentials(), region or _region(session, error)
            if credentials is None:
                raise error(
                    "a login by IAM needs AWS credentials, and none were found; configure them for boto3"
                )
            signers.append(
                RequestSigner(
                    ServiceId("elasticache"), region_name, "elasticache", "v4", credentials, session.events
                )
            )
        query = urlencode({"Action": "connect", "User": user})
        request = {
            "method": "GET",
            "url": f"https://{group.lower()}/?{query}",
            "body": {},
            "headers": {},
            "context": {},
        }
        url: str = signers[0].generate_presigned_url(request, operation_name="connect", expires_in=_SECONDS)
        return url.removeprefix("https://")

    return LoginTokens(_translating_errors(make, error))


def _session(error: type[Exception]) -> Any:
    try:
        import boto3
    except ImportError as missing:
        raise error(
            "a login by IAM needs boto3, which is not installed; install the extra aws-access"
        ) from missing
    return boto3.session.Session()


def _region(session: Any, error: type[Exception]) -> str:
    # boto3 reads only the older name, AWS_DEFAULT_REGION.
    region = os.environ.get("AWS_REGION") or session.region_name
    if not region:
        raise error("a login by IAM needs the AWS region; set AWS_REGION")
    return str(region)


def _translating_errors(make: Callable[..., str], error: type[Exception]) -> Callable[..., str]:
    """Translate the errors of botocore to `error`."""

    def translated(*subject: str) -> str:
        try:
            return make(*subject)
        except error:
            raise
        except Exception as reason:
            if type(reason).__module__.partition(".")[0] not in ("botocore", "boto3"):
                raise
            raise error(f"cannot sign a login token: {reason}") from reason

    return translated

"""The names of a stack's outputs: the one contract between the program, ops and the tests.

Plain data, no Pulumi. Connection strings are documented in docs/connections.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from infra.spec.roles import DATABASE

TARGET: Final = "target"
# Endpoint mappings: {"host": ..., "port": ...} as seen from outside the data network.
POSTGRES: Final = "postgres"
REDIS: Final = "redis"
ACCESS_URL: Final = "accessUrl"
# Where monitoring is on.
PROMETHEUS_URL: Final = "prometheusUrl"
CA_FILE: Final = "caFile"
CA_CERTIFICATE: Final = "caCertificate"
# What a check may compare a live server with: effective settings, rendered from the stack's settings.
EXPECTED: Final = "expected"
# Docker names by role (postgres, redis, access, network; with monitoring its three); absent on AWS.
CONTAINERS: Final = "containers"
# What `backup`, `restore` and `drill` work with. On Docker {"enabled", "retentionFull", "fullDays"}, the image and
# the volumes ("image", "dataVolume", "configVolume", "repositoryVolume"); on AWS {"region", "instance"} of RDS.
BACKUPS: Final = "backups"
# On AWS: the endpoints of read replicas, like POSTGRES; the group that lets whoever wears it reach the servers;
# role -> ARN of the IAM policy that lets one log in as it; the log groups' common prefix; the dashboard's name.
POSTGRES_REPLICAS: Final = "postgresReplicas"
APPLICATION_SECURITY_GROUP: Final = "applicationSecurityGroup"
LOGIN_POLICIES: Final = "loginPolicies"
DASHBOARD: Final = "dashboard"
# What the module's environment needs beside the URLs to log in by IAM tokens; absent on Docker.
LOGIN_ENVIRONMENT: Final = "loginEnvironment"
# Secret: role -> URL. Which roles have which is ROLES below. On AWS they hold no password, and are no secret.
DATABASE_URLS: Final = "databaseUrls"
REDIS_URLS: Final = "redisUrls"
# Secret: GROUNDWORK_TOKEN_KEYS of an application that reads users' tokens.
TOKEN_KEYS: Final = "tokenKeys"

# Which generation of each secret is in use and which are accepted, as infra.spec.rotation.Rotation.as_json().
ROTATION: Final = "rotation"

# role -> its name in infra.spec.roles.LOGINS, the user it uses in Redis; None: it has none there. Which of its
# logins a role uses in Postgres changes with each rotation: infra.spec.roles.login_of.
ROLES: Final[dict[str, tuple[str | None, str | None]]] = {
    "app": ("app", "app"),
    "readonly": ("readonly", None),
    "monitor": ("monitor", "monitor"),
    "migrator": ("migrator", None),
    "ops": (None, "ops"),
}


def rds_instance(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Region and name of the instance that keeps a stack's backups on AWS; None on Docker."""
    if values.get(TARGET) != "aws":
        return None
    backups = values[BACKUPS]
    return str(backups["region"]), str(backups["instance"])


def database_url(*, login: str, password: str | None, host: str, port: int, ca_file: str) -> str:
    """A libpq URL that checks the server's certificate and name; without a password where a token is one."""
    query = urlencode({"sslmode": "verify-full", "sslrootcert": ca_file}, safe="/", quote_via=quote)
    return f"postgresql://{_user(login, password)}@{host}:{port}/{DATABASE}?{query}"


def redis_url(*, user: str, password: str | None, host: str, port: int, ca_file: str) -> str:
    """A redis-py URL that checks the server's certificate and name; without a password where a token is one."""
    query = urlencode({"ssl_ca_certs": ca_file, "ssl_check_hostname": "true"}, safe="/", quote_via=quote)
    return f"rediss://{_user(user, password)}@{host}:{port}/0?{query}"


def _user(name: str, password: str | None) -> str:
    return name if password is None else f"{name}:{quote(password, safe='')}"

"""The names of the stack outputs. The program exports them; ops and the tests read them.

This module is plain data and does not import Pulumi. Connection strings are documented in docs/connections.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from infra.spec.roles import DATABASE

TARGET: Final = "target"
# Endpoints as {"host": ..., "port": ...}, as seen from outside the data network.
POSTGRES: Final = "postgres"
REDIS: Final = "redis"
# Only with redisReplicas: the endpoints of all servers, in the form of REDIS. One of them is the primary.
REDIS_SERVERS: Final = "redisServers"
ACCESS_URL: Final = "accessUrl"
# Only with the setting `monitoring`.
PROMETHEUS_URL: Final = "prometheusUrl"
CA_FILE: Final = "caFile"
CA_CERTIFICATE: Final = "caCertificate"
# The effective settings, rendered from the stack's settings, with which a check compares a live server.
EXPECTED: Final = "expected"
# Docker names by service: postgres, redis, access, network, three more with monitoring, and five more with replicas of
# Postgres. Absent on AWS.
CONTAINERS: Final = "containers"
# The input of `backup`, `restore` and `drill`. On Docker {"enabled", "retentionFull", "fullDays"}, the image and the
# volumes ("image", "dataVolume", "configVolume", "repositoryVolume"). On AWS {"region", "instance"} of RDS.
BACKUPS: Final = "backups"
# The endpoints of the replicas, in the form of POSTGRES; absent on Docker without replicas. On Docker any of them, and
# POSTGRES too, may be the primary's, because each of them can take over.
POSTGRES_REPLICAS: Final = "postgresReplicas"
# Only on AWS, in this order: the security group whose members can reach the servers; role -> ARN of the IAM policy for
# logging in as that role; the dashboard's name.
APPLICATION_SECURITY_GROUP: Final = "applicationSecurityGroup"
LOGIN_POLICIES: Final = "loginPolicies"
DASHBOARD: Final = "dashboard"
# Environment variables that a client needs in addition to the URLs to log in with IAM tokens. Absent on Docker.
LOGIN_ENVIRONMENT: Final = "loginEnvironment"
# Role -> URL; ROLES below lists which roles have which. Secret on Docker. On AWS the URLs contain no password, so they
# are not secret.
DATABASE_URLS: Final = "databaseUrls"
# Only with replicas: READING_ROLES -> URL of a replica, or of the primary if there is no replica.
DATABASE_READ_URLS: Final = "databaseReadUrls"
REDIS_URLS: Final = "redisUrls"
# Secret: the value of GROUNDWORK_TOKEN_KEYS for an application that reads users' tokens.
TOKEN_KEYS: Final = "tokenKeys"

# Which generation of each secret is in use and which are accepted, as infra.spec.rotation.Rotation.as_json().
ROTATION: Final = "rotation"

# Role -> its key in infra.spec.roles.LOGINS, and its Redis user. None if the role cannot log in to that server. The
# Postgres login that a role uses changes with each rotation (infra.spec.roles.login_of).
ROLES: Final[dict[str, tuple[str | None, str | None]]] = {
    "app": ("app", "app"),
    "readonly": ("readonly", None),
    "monitor": ("monitor", "monitor"),
    "migrator": ("migrator", None),
    "ops": (None, "ops"),
}
# The roles whose reads replicas can answer.
READING_ROLES: Final = ("app", "readonly")
# The parameters of a URL that only libpq knows, and that a URL of one server does not need.
_OF_LISTS = ("connect_timeout", "target_session_attrs", "load_balance_hosts")


def rds_instance(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the region and name of the RDS instance that keeps a stack's backups, or None on Docker."""
    if values.get(TARGET) != "aws":
        return None
    backups = values[BACKUPS]
    return str(backups["region"]), str(backups["instance"])


def database_url(
    *,
    login: str,
    password: str | None,
    host: str,
    port: int,
    ca_file: str,
    others: Sequence[tuple[str, int]] = (),
    reads: bool = False,
) -> str:
    """Return a libpq URL that verifies the server's certificate and name. With IAM tokens `password` is None.

    `others` are the host and port of each other server. A client then connects to the primary among them, or with
    `reads` to any replica, and waits at most 2 s for each.
    """
    parameters = {"sslmode": "verify-full", "sslrootcert": ca_file}
    if reads:
        # The primary answers if there is no replica.
        parameters |= {
            "connect_timeout": "2",
            "target_session_attrs": "prefer-standby",
            "load_balance_hosts": "random",
        }
    elif others:
        # Not read-write: roles whose transactions are read-only by default would find no server.
        parameters |= {"connect_timeout": "2", "target_session_attrs": "primary"}
    query = urlencode(parameters, safe="/", quote_via=quote)
    servers = ",".join(f"{name}:{at}" for name, at in ((host, port), *others))
    return f"postgresql://{_user(login, password)}@{servers}/{DATABASE}?{query}"


def one_server_url(url: str, host: str, port: int) -> str:
    """Return a `database_url` with several servers as a URL of one of them, for clients that accept no list."""
    place, _, query = url.partition("?")
    user = place.rpartition("@")[0]
    kept = (each for each in query.split("&") if each.partition("=")[0] not in _OF_LISTS)
    return f"{user}@{host}:{port}/{DATABASE}?{'&'.join(kept)}"


def redis_url(*, user: str, password: str | None, servers: Sequence[tuple[str, int]], ca_file: str) -> str:
    """Return a URL that verifies the server's certificate and name. With IAM tokens `password` is None.

    With one server it is a redis-py URL. Several are a primary and its replicas, which only groundwork's `cache` knows.
    """
    query = urlencode({"ssl_ca_certs": ca_file, "ssl_check_hostname": "true"}, safe="/", quote_via=quote)
    listed = ",".join(f"{host}:{port}" for host, port in servers)
    return f"rediss://{_user(user, password)}@{listed}/0?{query}"


def server_urls(url: str) -> list[str]:
    """Return a URL for each server of a `redis_url` or `database_url`, in its order."""
    scheme, _, rest = url.partition("://")
    place, slash, options = rest.partition("/")
    user, at, servers = place.rpartition("@")
    return [f"{scheme}://{user}{at}{server}{slash}{options}" for server in servers.split(",")]


def address_of(url: str) -> str:
    """Return host:port of a URL with one server."""
    return urlsplit(url).netloc.rpartition("@")[2]


def redis_addresses(values: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return (host, port) of each Redis server of a stack."""
    servers = values.get(REDIS_SERVERS) or [values[REDIS]]
    return [(str(server["host"]), int(server["port"])) for server in servers]


def _user(name: str, password: str | None) -> str:
    return name if password is None else f"{name}:{quote(password, safe='')}"

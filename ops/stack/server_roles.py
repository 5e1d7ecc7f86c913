"""The present role of each server of a stack with replicas, for `groundwork status`.

Each server is asked inside its container. A server that does not answer has no role, which its health explains.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from infra.docker.engine import DockerError, psql
from infra.docker.redis_members import RedisMember, is_linked, redis_members
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis_replication import SERVER_NAMES

PRIMARY, REPLICA, SYNCHRONOUS, DETACHED = "primary", "replica", "synchronous replica", "no primary"
_SECONDS = 5
# `f`, or `t` and `member=state` for each replica that streams from this server.
_POSTGRES = """
SELECT concat_ws(' ', pg_is_in_recovery(), string_agg(application_name || '=' || sync_state, ' '))
FROM pg_stat_replication WHERE state = 'streaming'
"""


def server_roles(containers: Mapping[str, str], running: Collection[str]) -> dict[str, str]:
    """Return service -> role, given all containers by service, and the services that run.

    Empty if no kind of server has replicas.
    """
    members = [member for member in MEMBERS if member in containers]
    # A single server has no role. With replicas, the last one that runs has one.
    postgres = {m: containers[m] for m in members if m in running and len(members) > 1}
    redis = redis_members(containers[SERVER_NAMES[0]]) if SERVER_NAMES[0] in containers else {}
    servers = [redis[server] for server in SERVER_NAMES if server in redis and redis[server].is_running]
    with ThreadPoolExecutor(max_workers=len(MEMBERS) + len(SERVER_NAMES)) as pool:
        of_postgres = pool.map(_ask_postgres, postgres.values())
        of_redis = pool.map(_redis_role, servers)
        roles = postgres_roles(dict(zip(postgres, of_postgres, strict=True)))
        return roles | {server.name: role for server, role in zip(servers, of_redis, strict=True) if role}


def postgres_roles(answers: Mapping[str, str]) -> dict[str, str]:
    """Return the role of each member that answered, from the answers by member."""
    words = {member: answer.split() for member, answer in answers.items() if answer}
    streaming = dict(
        replica.split("=", 1) for first, *replicas in words.values() if first == "f" for replica in replicas
    )
    states = {"sync": SYNCHRONOUS, "quorum": SYNCHRONOUS}
    return {
        member: PRIMARY
        if first == "f"
        else states.get(streaming[member], REPLICA)
        if member in streaming
        else DETACHED
        for member, (first, *_) in words.items()
    }


def _ask_postgres(container: str) -> str:
    try:
        return psql(container, _POSTGRES, timeout_seconds=_SECONDS).strip()
    except DockerError:
        return ""


def _redis_role(server: RedisMember) -> str | None:
    try:
        report = server.info("replication")
    except DockerError:
        return None
    if report["role"] == "master":
        return PRIMARY
    return REPLICA if is_linked(report) else DETACHED

"""The present role of each server of a stack with replicas, for `groundwork status`.

Each server is asked inside its container. A server that does not answer has no role, which its health explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from infra.docker.engine import DockerError, docker, psql
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis import CONFIG_DIR, PORT
from infra.spec.redis_replication import SERVER_NAMES

PRIMARY, REPLICA, SYNCHRONOUS, DETACHED = "primary", "replica", "synchronous replica", "no primary"
_SECONDS = 5
# `f`, or `t` and `member=state` for each replica that streams from this server.
_POSTGRES = """
SELECT concat_ws(' ', pg_is_in_recovery(), string_agg(application_name || '=' || sync_state, ' '))
FROM pg_stat_replication WHERE state = 'streaming'
"""
# The password goes through a pipe, because other users of the machine can read command lines.
_REDIS = f"""
cd {CONFIG_DIR}
{{ echo "AUTH monitor $(cat monitor.password)"; echo "INFO replication"; }} |
    timeout 3 redis-cli -h localhost -p {PORT} --tls --cacert ca.crt
"""


def server_roles(containers: Mapping[str, str]) -> dict[str, str]:
    """Return service -> role, given the containers that run by service. Empty if no kind of server has replicas."""
    postgres = {member: containers[member] for member in MEMBERS if member in containers}
    redis = {server: containers[server] for server in SERVER_NAMES if server in containers}
    with ThreadPoolExecutor(max_workers=len(MEMBERS) + len(SERVER_NAMES)) as pool:
        of_postgres = pool.map(_ask_postgres, postgres.values()) if len(postgres) > 1 else ()
        of_redis = pool.map(_ask_redis, redis.values()) if len(redis) > 1 else ()
        return {
            **postgres_roles(dict(zip(postgres, of_postgres, strict=False))),
            **redis_roles(dict(zip(redis, of_redis, strict=False))),
        }


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


def redis_roles(answers: Mapping[str, str]) -> dict[str, str]:
    """Return the role of each server that answered, from INFO replication by server."""
    roles = {}
    for server, answer in answers.items():
        if "role:master" in answer:
            roles[server] = PRIMARY
        elif "role:slave" in answer:
            roles[server] = REPLICA if "master_link_status:up" in answer else DETACHED
    return roles


def _ask_postgres(container: str) -> str:
    try:
        return psql(container, _POSTGRES, timeout_seconds=_SECONDS).strip()
    except DockerError:
        return ""


def _ask_redis(container: str) -> str:
    try:
        return docker("exec", container, "sh", "-c", _REDIS, timeout_seconds=_SECONDS)
    except DockerError:
        return ""

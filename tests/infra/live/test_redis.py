"""Redis matches the stack's outputs: version, memory and eviction, users, TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from infra import outputs
from infra.spec.redis_acl import KEY_PREFIX
from tests.cases import in_case
from tests.infra.live.reached import Reached
from tests.infra.live.stranger import stranger
from tests.promises import promise

USERS = [role for role, (_, user) in outputs.ROLES.items() if user]


def test_it_is_redis_7(reached: Reached) -> None:
    info: Any = reached.redis("ops").info("server")
    assert info["redis_version"].startswith("7.")


@promise("`redisEvictionPolicy` and `redisMaxmemory` are in force")
def test_the_eviction_policy_of_the_settings_is_in_effect(reached: Reached) -> None:
    """From INFO, which every target answers. ElastiCache has no CONFIG."""
    info: Any = reached.redis("monitor").info("memory")
    assert info["maxmemory_policy"] == reached.expected["redisEvictionPolicy"]


def test_memory_limit_matches_the_settings(reached: Reached) -> None:
    info: Any = reached.redis("monitor").info("memory")
    expected = reached.expected["redisMaxmemoryBytes"]
    if reached.is_on_aws:
        # Depending on its version, a node reports its memory with or without the reserved part.
        assert expected * 0.9 <= info["maxmemory"] <= expected * 4
    else:
        assert info["maxmemory"] == expected


# Each command, and the users that may execute it.
RULES: list[tuple[tuple[str, ...], set[str]]] = [
    (("PING",), {"app", "ops", "monitor"}),
    (("GET", f"{KEY_PREFIX}verified-live"), {"app", "ops"}),
    (("EXISTS", "another:prefix"), set()),
    (("INFO", "server"), {"app", "ops", "monitor"}),
    (("DBSIZE",), {"ops", "monitor"}),
    (("CLIENT", "LIST"), {"ops", "monitor"}),
    (("ACL", "LIST"), {"ops"}),
    (("CONFIG", "HELP"), set()),
    (("KEYS", "verified-live:none"), set()),
    (("PUBLISH", "verified-live", ""), set()),
]


@promise("a stack's servers match its outputs")
@pytest.mark.parametrize("user", USERS)
def test_each_user_has_exactly_the_permissions_of_its_rules(reached: Reached, user: str) -> None:
    """Nothing changes, even if the server allows a command."""
    with reached.redis(user) as client:
        for command, allowed in RULES:
            if user in allowed:
                client.execute_command(*command)
            else:
                with (
                    in_case(command),
                    pytest.raises(redis.ResponseError, match=r"(?i)permission|unknown command"),
                ):
                    client.execute_command(*command)


def test_login_without_a_user_is_refused(reached: Reached) -> None:
    endpoint = reached.outputs[outputs.REDIS]
    stranger = redis.Redis(
        endpoint["host"], endpoint["port"], ssl=True, ssl_cert_reqs="none", socket_timeout=30
    )
    with pytest.raises(redis.RedisError, match=r"(?i)auth"):
        stranger.ping()


def test_unencrypted_connections_are_refused(reached: Reached) -> None:
    endpoint = reached.outputs[outputs.REDIS]
    with pytest.raises(redis.ConnectionError):
        redis.Redis(endpoint["host"], endpoint["port"], socket_timeout=30).ping()


def test_a_server_certificate_of_another_authority_is_rejected(reached: Reached, tmp_path: Path) -> None:
    with pytest.raises(redis.ConnectionError, match=r"(?i)certificate"):
        reached.redis("app", ca_file=stranger(tmp_path)).ping()

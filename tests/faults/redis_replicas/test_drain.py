"""A server with replicas is prepared for the replacement of its container."""

from __future__ import annotations

from infra.docker.redis_drain import drain
from infra.spec.redis_replication import SERVER_NAMES
from tests.redis_group import Group


def test_draining_a_replica_moves_nothing(group: Group) -> None:
    primary = group.primary()
    replica = next(name for n, name in enumerate(SERVER_NAMES) if n != primary)
    assert drain(group.servers[0].container, replica, group.maxmemory_bytes)
    assert group.primary() == primary


def test_data_is_reduced_to_what_a_server_with_less_memory_can_load(group: Group) -> None:
    primary = group.primary()
    replica = next(name for n, name in enumerate(SERVER_NAMES) if n != primary)
    few = group.maxmemory_bytes // 4
    with group.administrator(primary) as client:
        for n in range(24):
            client.set(f"gw:drain:{n}", "x" * 2**20)
        assert client.info("memory")["used_memory"] > few
    try:
        assert drain(group.servers[0].container, replica, few)
        with group.administrator(primary) as client:
            memory = client.info("memory")
            assert memory["used_memory"] - memory["mem_not_counted_for_evict"] <= few
            assert client.keys("gw:drain:*")
    finally:
        for n in range(len(group.servers)):
            with group.administrator(n) as client:
                client.config_set("maxmemory", group.maxmemory_bytes)

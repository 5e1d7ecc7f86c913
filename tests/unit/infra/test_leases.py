"""Leases of ports and subnets: kept, moved when somebody else has them, refused when a setting names them."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from infra.docker import leases
from infra.docker.leases import Leases, take_leases
from infra.settings import StackSettings
from infra.spec.errors import SettingError
from infra.spec.world import World

AUTO = StackSettings()


class Engine:
    """What leases ask of Docker: its networks, and the ports that containers publish."""

    def __init__(self) -> None:
        self.subnets: dict[str, str] = {"bridge": "172.17.0.0/16"}
        self.published: dict[str, int] = {}

    def docker(self, *arguments: str) -> str:
        assert arguments[:2] == ("network", "ls"), arguments
        return "\n".join(self.subnets)

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        if kind == "network":
            return [{"Name": n, "IPAM": {"Config": [{"Subnet": self.subnets[n]}]}} for n in names]
        return [
            {
                "Name": f"/{name}",
                "State": {"Running": True},
                "HostConfig": {"PortBindings": {"5432/tcp": [{"HostPort": str(self.published[name])}]}},
            }
            for name in names
            if name in self.published
        ]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(leases, "docker", engine.docker)
    monkeypatch.setattr(leases, "inspect", engine.inspect)
    return engine


def _world(folder: Path, key: str = "0a1b2c") -> World:
    return World(root=folder, key=key, state_dir=folder / key, cache_dir=folder)


@pytest.fixture
def world(tmp_path: Path, engine: Engine) -> World:
    return _world(tmp_path)


@contextmanager
def taken(port: int = 0) -> Iterator[int]:
    """A port of 127.0.0.1 on which another program listens."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        yield listener.getsockname()[1]


def _ports(taken_leases: Leases) -> list[int]:
    return [taken_leases.postgres, taken_leases.redis, taken_leases.access, taken_leases.prometheus]


@pytest.mark.parametrize("key", ["postgresPort", "redisPort", "accessPort"])
def test_a_taken_port_that_a_setting_names_is_refused(world: World, key: str) -> None:
    with taken() as port, pytest.raises(SettingError, match=f"port {port} of 127.0.0.1 is taken") as refusal:
        take_leases(world, "dev", StackSettings.parse({key: port}))
    assert refusal.value.key == f"groundwork:{key}"
    assert "or 0 to have a free one picked" in refusal.value.fix


def test_a_taken_port_of_prometheus_is_refused_where_monitoring_is_on(world: World) -> None:
    with taken() as port:
        with pytest.raises(SettingError, match="groundwork:prometheusPort"):
            take_leases(world, "dev", StackSettings(monitoring=True, prometheus_port=port))
        assert take_leases(world, "dev", StackSettings(prometheus_port=port)).prometheus != port


def test_leases_that_were_written_down_before_monitoring_are_kept(world: World) -> None:
    first = take_leases(world, "dev", AUTO)
    path = world.stack_dir("dev") / "leases.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in kept.items() if key != "prometheus"}))
    assert take_leases(world, "dev", AUTO) == first


def test_a_refusal_writes_nothing_down(world: World) -> None:
    with taken() as port, pytest.raises(SettingError):
        take_leases(world, "dev", StackSettings(redis_port=port))
    assert not world.stack_dir("dev").exists()


def test_a_free_port_that_a_setting_names_is_taken(world: World) -> None:
    with taken() as port:
        pass
    assert take_leases(world, "dev", StackSettings(redis_port=port)).redis == port


def test_a_port_that_the_stacks_own_container_publishes_is_no_stranger(world: World, engine: Engine) -> None:
    with taken() as port:
        engine.published[world.name("dev", "redis")] = port
        assert take_leases(world, "dev", StackSettings(redis_port=port)).redis == port


def test_a_port_of_another_stacks_container_is_refused(world: World, engine: Engine) -> None:
    with taken() as port:
        engine.published[world.name("test", "redis")] = port
        with pytest.raises(SettingError, match=str(port)):
            take_leases(world, "dev", StackSettings(redis_port=port))


def test_picked_leases_are_kept_between_calls(world: World) -> None:
    first = take_leases(world, "dev", AUTO)
    assert take_leases(world, "dev", AUTO) == first


def test_picked_leases_are_kept_while_the_containers_run(world: World, engine: Engine) -> None:
    first = take_leases(world, "dev", AUTO)
    engine.published = {
        world.name("dev", what): getattr(first, what) for what in ("postgres", "redis", "access")
    }
    engine.subnets[world.name("dev", "data")] = first.subnet
    with taken(first.postgres), taken(first.redis), taken(first.access):
        assert take_leases(world, "dev", AUTO) == first


def test_a_picked_port_that_somebody_takes_moves_and_the_others_stay(world: World) -> None:
    first = take_leases(world, "dev", AUTO)
    with taken(first.redis):
        second = take_leases(world, "dev", AUTO)
    assert second.redis != first.redis
    assert asdict(second) | {"redis": first.redis} == asdict(first)
    assert take_leases(world, "dev", AUTO) == second


def test_picked_ports_differ_and_lie_below_the_ephemeral_range(world: World) -> None:
    ports = _ports(take_leases(world, "dev", AUTO))
    assert len(set(ports)) == 4
    assert all(20_000 <= port < 32_000 for port in ports)


def test_a_picked_port_is_none_that_a_setting_names(world: World) -> None:
    picked = take_leases(world, "dev", AUTO).postgres
    again = take_leases(world, "dev", StackSettings(access_port=picked))
    assert again.access == picked
    assert len(set(_ports(again))) == 4


def test_two_checkouts_on_one_machine_get_different_numbers(tmp_path: Path, engine: Engine) -> None:
    one, other = (take_leases(_world(tmp_path, key), "dev", AUTO) for key in ("aaaaaa", "bbbbbb"))
    assert set(_ports(one)).isdisjoint(_ports(other))
    assert one.subnet != other.subnet


def test_two_stacks_of_one_checkout_get_different_numbers(world: World) -> None:
    one, other = (take_leases(world, stack, AUTO) for stack in ("dev", "test"))
    assert set(_ports(one)).isdisjoint(_ports(other))
    assert one.subnet != other.subnet


def test_a_picked_subnet_overlaps_no_network_that_exists(world: World, engine: Engine) -> None:
    wanted = take_leases(world, "dev", AUTO).subnet
    wider = ipaddress.IPv4Network(wanted).supernet(new_prefix=16)
    engine.subnets["somebody's"] = str(wider)
    moved = take_leases(world, "dev", AUTO).subnet
    assert not ipaddress.IPv4Network(moved).overlaps(wider)
    assert ipaddress.IPv4Network(moved).prefixlen == 24


def test_the_subnet_that_a_setting_names_is_taken(world: World) -> None:
    assert take_leases(world, "dev", StackSettings(network_subnet="10.201.7.0/24")).subnet == "10.201.7.0/24"

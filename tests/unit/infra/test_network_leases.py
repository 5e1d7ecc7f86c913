"""Leases of ports and subnets: kept, replaced if others use them, and refused if a setting names a used one."""

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

from infra.docker import network_leases
from infra.docker.network_leases import NetworkLeases, take_leases
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from infra.spec.errors import SettingError
from tests.cases import in_case
from tests.promises import promise

AUTO = StackSettings()


class Engine:
    """The part of Docker that leases query: its networks, and the ports that containers publish."""

    def __init__(self) -> None:
        self.subnets: dict[str, str] = {"bridge": "172.17.0.0/16"}
        # More networks, with names that others may have too.
        self.more: list[tuple[str, str]] = []
        self.published: dict[str, int] = {}

    @property
    def networks(self) -> dict[str, tuple[str, str]]:
        return {f"id{n}": network for n, network in enumerate([*self.subnets.items(), *self.more])}

    def docker(self, *arguments: str) -> str:
        assert arguments == ("network", "ls", "--no-trunc", "--quiet")
        return "\n".join(self.networks)

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        if kind == "network":
            found = [self.networks[name] for name in names]
            return [{"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}} for name, subnet in found]
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
    monkeypatch.setattr(network_leases, "docker", engine.docker)
    monkeypatch.setattr(network_leases, "inspect", engine.inspect)
    return engine


def _checkout(folder: Path, key: str = "0a1b2c") -> Checkout:
    return Checkout(root=folder, key=key, state_dir=folder / key, cache_dir=folder)


@pytest.fixture
def checkout(tmp_path: Path, engine: Engine) -> Checkout:
    return _checkout(tmp_path)


@contextmanager
def taken(port: int = 0) -> Iterator[int]:
    """A port of 127.0.0.1 on which another program listens."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        yield listener.getsockname()[1]


def _ports(taken_leases: NetworkLeases) -> list[int]:
    return [taken_leases.postgres, taken_leases.redis, taken_leases.access, taken_leases.prometheus]


@pytest.mark.parametrize("key", ["postgresPort", "redisPort", "accessPort"])
def test_a_port_of_a_setting_that_is_in_use_is_refused(checkout: Checkout, key: str) -> None:
    with taken() as port, pytest.raises(SettingError, match=f"port {port} of 127.0.0.1 is in use") as refusal:
        take_leases(checkout, "dev", StackSettings.parse({key: port}))
    assert refusal.value.key == f"groundwork:{key}"
    assert "or set 0 to choose a free one" in refusal.value.fix


def test_a_used_port_of_prometheus_is_refused_only_with_monitoring(checkout: Checkout) -> None:
    with taken() as port:
        with pytest.raises(SettingError, match="groundwork:prometheusPort"):
            take_leases(checkout, "dev", StackSettings(monitoring=True, prometheus_port=port))
        assert take_leases(checkout, "dev", StackSettings(prometheus_port=port)).prometheus != port


def test_leases_that_were_stored_before_monitoring_existed_are_kept(checkout: Checkout) -> None:
    first = take_leases(checkout, "dev", AUTO)
    path = checkout.stack_dir("dev") / "leases.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in kept.items() if key != "prometheus"}))
    assert take_leases(checkout, "dev", AUTO) == first


def test_a_refusal_stores_nothing(checkout: Checkout) -> None:
    with taken() as port, pytest.raises(SettingError):
        take_leases(checkout, "dev", StackSettings(redis_port=port))
    assert not checkout.stack_dir("dev").exists()


def test_a_free_port_of_a_setting_is_used(checkout: Checkout) -> None:
    with taken() as port:
        pass
    assert take_leases(checkout, "dev", StackSettings(redis_port=port)).redis == port


def test_a_port_that_the_stacks_own_container_publishes_is_accepted(
    checkout: Checkout, engine: Engine
) -> None:
    with taken() as port:
        engine.published[checkout.name("dev", "redis")] = port
        assert take_leases(checkout, "dev", StackSettings(redis_port=port)).redis == port


def test_a_port_of_another_stacks_container_is_refused(checkout: Checkout, engine: Engine) -> None:
    with taken() as port:
        engine.published[checkout.name("test", "redis")] = port
        with pytest.raises(SettingError, match=str(port)):
            take_leases(checkout, "dev", StackSettings(redis_port=port))


@promise("free ports are picked, published on 127.0.0.1 only, and kept")
def test_chosen_leases_are_kept_between_calls(checkout: Checkout) -> None:
    first = take_leases(checkout, "dev", AUTO)
    assert take_leases(checkout, "dev", AUTO) == first


def test_chosen_leases_are_kept_while_the_containers_run(checkout: Checkout, engine: Engine) -> None:
    first = take_leases(checkout, "dev", AUTO)
    engine.published = {
        checkout.name("dev", what): getattr(first, what) for what in ("postgres", "redis", "access")
    }
    engine.subnets[checkout.name("dev", "data")] = first.subnet
    with taken(first.postgres), taken(first.redis), taken(first.access):
        assert take_leases(checkout, "dev", AUTO) == first


def test_only_a_chosen_port_that_is_in_use_is_replaced(checkout: Checkout) -> None:
    first = take_leases(checkout, "dev", AUTO)
    with taken(first.redis):
        second = take_leases(checkout, "dev", AUTO)
    assert second.redis != first.redis
    assert asdict(second) | {"redis": first.redis} == asdict(first)
    assert take_leases(checkout, "dev", AUTO) == second


def test_chosen_ports_differ_and_are_below_the_ephemeral_range(checkout: Checkout) -> None:
    ports = _ports(take_leases(checkout, "dev", AUTO))
    assert len(set(ports)) == 4
    assert all(20_000 <= port < 32_000 for port in ports)


def test_a_chosen_port_is_not_one_that_a_setting_names(checkout: Checkout) -> None:
    picked = take_leases(checkout, "dev", AUTO).postgres
    again = take_leases(checkout, "dev", StackSettings(access_port=picked))
    assert again.access == picked
    assert len(set(_ports(again))) == 4


@promise("two checkouts on one machine share no name, port or secret")
def test_two_checkouts_on_one_machine_get_different_numbers(tmp_path: Path, engine: Engine) -> None:
    one, other = (take_leases(_checkout(tmp_path, key), "dev", AUTO) for key in ("aaaaaa", "bbbbbb"))
    assert set(_ports(one)).isdisjoint(_ports(other))
    assert one.subnet != other.subnet


def test_two_stacks_of_one_checkout_get_different_numbers(checkout: Checkout) -> None:
    one, other = (take_leases(checkout, stack, AUTO) for stack in ("dev", "test"))
    assert set(_ports(one)).isdisjoint(_ports(other))
    assert one.subnet != other.subnet


def test_a_chosen_subnet_does_not_overlap_an_existing_network(checkout: Checkout, engine: Engine) -> None:
    wanted = take_leases(checkout, "dev", AUTO).subnet
    wider = ipaddress.IPv4Network(wanted).supernet(new_prefix=16)
    engine.subnets["somebody's"] = str(wider)
    moved = take_leases(checkout, "dev", AUTO).subnet
    assert not ipaddress.IPv4Network(moved).overlaps(wider)
    assert ipaddress.IPv4Network(moved).prefixlen == 24


def test_the_subnet_of_a_setting_is_used(checkout: Checkout) -> None:
    assert (
        take_leases(checkout, "dev", StackSettings(network_subnet="10.201.7.0/24")).subnet == "10.201.7.0/24"
    )


@pytest.mark.parametrize("subnet", ["10.201.7.0/24", "10.201.6.0/23", "10.201.7.128/25"])
def test_a_subnet_of_a_setting_that_another_network_has_is_refused(
    checkout: Checkout, engine: Engine, monkeypatch: pytest.MonkeyPatch, subnet: str
) -> None:
    """Otherwise Docker refuses it only when `up` has removed the containers and the network."""
    engine.subnets["somebody's"] = "10.201.7.0/24"
    with pytest.raises(
        SettingError, match=r"overlaps 10\.201\.7\.0/24 of Docker's network somebody's"
    ) as refused:
        take_leases(checkout, "dev", StackSettings(network_subnet=subnet))
    assert refused.value.key == "groundwork:networkSubnet"
    # As engines before 25 report a network that was created with this address.
    engine.subnets["somebody's"] = "10.201.7.5/24"
    with pytest.raises(SettingError, match=r"overlaps 10\.201\.7\.0/24 of Docker's network somebody's"):
        take_leases(checkout, "dev", StackSettings(network_subnet=subnet))
    engine.subnets["somebody's"] = "10.201.7.0/24"
    # Neither a network of a swarm nor one without addresses of its own is in the way.
    overlay = {"Name": "overlay", "Scope": "swarm", "IPAM": {"Config": [{"Subnet": subnet}]}}
    without = {"Name": "without", "Scope": "local", "IPAM": {"Config": [{"Subnet": "0.0.0.0/0"}]}}
    monkeypatch.setattr(
        network_leases,
        "inspect",
        lambda kind, *names: [overlay, without] if kind == "network" else engine.inspect(kind, *names),
    )
    assert take_leases(checkout, "dev", StackSettings(network_subnet=subnet)).subnet == subnet
    monkeypatch.setattr(network_leases, "inspect", engine.inspect)
    # The stack's own network is replaced.
    engine.subnets[checkout.name("dev", "data")] = engine.subnets.pop("somebody's")
    assert take_leases(checkout, "dev", StackSettings(network_subnet=subnet)).subnet == subnet


def test_every_network_counts_also_with_the_name_of_another_or_a_space(
    checkout: Checkout, engine: Engine
) -> None:
    """Engines before 25 allow two networks of one name, and the docker command then inspects neither by name."""
    first, second, spaced = "10.201.7.0/24", "10.201.8.0/24", "10.201.9.0/24"
    engine.more = [("somebody's", first), ("somebody's", second), ("some body's", spaced)]
    for subnet in (first, second, spaced):
        with in_case(subnet), pytest.raises(SettingError, match="overlaps"):
            take_leases(checkout, "dev", StackSettings(network_subnet=subnet))


def test_a_chosen_subnet_has_no_addresses_to_which_the_machine_has_a_route(
    checkout: Checkout, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the routes of a VPN to one half of 10.192.0.0/10, and then to all of 10.0.0.0/8."""
    routes = tmp_path / "route"
    monkeypatch.setattr(network_leases, "_ROUTES", routes)
    header, default = "Iface Destination ...", "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0"
    wanted = set()
    for destination in ("0000C00A", "0000E00A"):
        routes.write_text(f"{header}\n{default}\ntun0 {destination} 0 0001 0 0 0 0000E0FF 0 0 0\n")
        wanted.add(take_leases(checkout, destination.lower(), AUTO).subnet.split(".")[1])
    lower, upper = sorted(map(int, wanted))
    assert 192 <= lower < 224 <= upper
    routes.write_text(f"{header}\ntun0 0000000A 0 0001 0 0 0 000000FF 0 0 0\n")
    assert take_leases(checkout, "vpn", AUTO).subnet.startswith("10.")


def test_replicas_use_the_ports_after_the_one_of_a_setting(checkout: Checkout) -> None:
    settings = StackSettings(postgres_port=24100, redis_port=24110, postgres_replicas=2, redis_replicas=2)
    found = take_leases(checkout, "dev", settings)
    assert list(found.postgres_members.values()) == [24100, 24101, 24102]
    assert found.redis_servers == [24110, 24111, 24112]
    # Without replicas the next ports stay free for others.
    with taken(24111):
        single = take_leases(checkout, "dev", StackSettings(redis_port=24110))
        assert (single.redis, single.redis_2) == (24110, 0)
        with pytest.raises(SettingError, match=r"groundwork:redisPort: port 24111 .* by another program"):
            take_leases(checkout, "dev", settings)


def test_a_chosen_port_is_not_one_of_a_replica(checkout: Checkout) -> None:
    picked = take_leases(checkout, "dev", AUTO).access
    again = take_leases(checkout, "dev", StackSettings(redis_port=picked - 2, redis_replicas=2))
    assert again.redis_servers == [picked - 2, picked - 1, picked]
    assert again.access != picked


def test_a_port_of_another_server_of_the_stack_is_named(checkout: Checkout, engine: Engine) -> None:
    first = take_leases(checkout, "dev", StackSettings(redis_replicas=2))
    engine.published = {checkout.name("dev", "redis-2"): first.redis_2}
    engine.subnets[checkout.name("dev", "data")] = first.subnet
    with (
        taken(first.redis_2),
        pytest.raises(SettingError, match="in use by redis-2 of this stack") as refusal,
    ):
        take_leases(checkout, "dev", StackSettings(redis_port=first.redis_2, redis_replicas=2))
    assert "`groundwork down --stack dev` and then `groundwork up --stack dev`" in refusal.value.fix


def test_replicas_get_ports_of_their_own_which_are_kept(checkout: Checkout) -> None:
    single = take_leases(checkout, "dev", AUTO)
    assert (single.postgres_2, single.postgres_3) == (0, 0)
    first = take_leases(checkout, "dev", StackSettings(postgres_replicas=2))
    ports = [*_ports(first), first.postgres_2, first.postgres_3]
    assert len(set(ports)) == len(ports)
    assert 0 not in ports
    assert _ports(first) == _ports(single)
    assert take_leases(checkout, "dev", StackSettings(postgres_replicas=2)) == first

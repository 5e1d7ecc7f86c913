"""A primary that fails in several ways under writers: no acknowledged write is lost."""

from __future__ import annotations

import time

import pytest

from infra.docker.engine import docker
from infra.spec.postgres_cluster import MEMBERS
from tests.containers import pause, wait_until
from tests.faults.network import cut_off
from tests.infra.cluster.callers import calling
from tests.infra.cluster.conftest import LIMIT_SECONDS, LiveCluster
from tests.infra.cluster.writers import Writers, writing
from tests.integration.data_access import replica_reads
from tests.promises import promise
from tests.scale import IS_FULL

# Without these, an acknowledged write may be on the primary alone.
_CARELESS = "options=-c%20synchronous_commit%3Dlocal"


def _freeze(cluster: LiveCluster, writers: Writers, old: str) -> None:
    pause(old)
    try:
        _await_writes(writers)
    finally:
        docker("unpause", old)


def _kill(cluster: LiveCluster, writers: Writers, old: str) -> None:
    docker("kill", old)
    try:
        _await_writes(writers)
    finally:
        docker("start", old)


def _partition(cluster: LiveCluster, writers: Writers, old: str) -> None:
    """Cut the primary off from the other servers and from etcd. Clients still reach it."""
    peers = [each for name, each in cluster.addresses().items() if cluster.container(name) != old]
    with cut_off(old, peers):
        _await_writes(writers)


def _switch_over(cluster: LiveCluster, writers: Writers, old: str) -> None:
    cluster.checkout.succeed("cluster", "switchover", "--yes")


def _await_writes(writers: Writers) -> None:
    """Wait until writes are acknowledged that began after the fault."""
    began = time.monotonic() + 2
    wait_until(lambda: writers.has_written_since(began), LIMIT_SECONDS)


FAULTS = {"freeze": _freeze, "switchover": _switch_over, "partition": _partition, "kill": _kill}
_COUNTS = {"freeze": 10, "switchover": 20, "partition": 10, "kill": 20}
# A kill ends like a freeze: with the lease.
_RUNS = (
    [fault for fault, count in _COUNTS.items() for _ in range(count)]
    if IS_FULL
    else ["freeze switchover partition"]
)


@promise("no acknowledged write is lost when the primary is killed, frozen, cut off or moved")
@promise("a caller that repeats writes with their idempotency keys gets no other error during a failover")
@promise("a read in `reading()` sees every write that its data access has completed")
@pytest.mark.parametrize(("number", "faults"), list(enumerate(_RUNS)))
@pytest.mark.timeout(1200)
def test_no_acknowledged_write_is_lost(cluster: LiveCluster, number: int, faults: str) -> None:
    cluster.wait_until_whole()
    first = (number + 1) * 1_000_000
    answered = replica_reads("replica")
    with writing(cluster.url) as writers, calling(cluster.url, cluster.read_url, first) as callers:
        wait_until(lambda: len(writers.acknowledged) >= 100, LIMIT_SECONDS)
        wait_until(lambda: replica_reads("replica") > answered, LIMIT_SECONDS)
        for fault in faults.split():
            old = cluster.primary()
            FAULTS[fault](cluster, writers, old)
            _await_writes(writers)
            # The old primary comes back while the others write.
            cluster.wait_until_whole()
            assert cluster.primary() != old, fault
    assert writers.acknowledged.keys() - writers.rows() == set(), f"longest wait {writers.gap():.1f} s"
    assert callers.missed == []
    users = cluster.sql(f"SELECT github_id FROM groundwork.users WHERE github_id >= {first}").split()
    assert sorted(map(int, users)) == sorted(callers.written), f"after {callers.retries} retries"


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: it waits for the end of a lease")
@promise("no acknowledged write is lost when the primary is killed, frozen, cut off or moved", control=True)
def test_writes_that_do_not_wait_for_a_replica_are_lost(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    old = cluster.primary()
    replicas = [cluster.container(member) for member in MEMBERS if cluster.container(member) != old]
    with writing(f"{cluster.url}&{_CARELESS}") as writers:
        for replica in replicas:
            pause(replica)
        began = time.monotonic()
        wait_until(lambda: writers.has_written_since(began + 0.5), LIMIT_SECONDS)
        docker("kill", old)
    docker("unpause", *replicas)
    try:
        # Of the replicas, one was synchronous, and is promoted.
        assert cluster.primary() in replicas
        assert writers.acknowledged.keys() - writers.rows()
    finally:
        docker("start", old)

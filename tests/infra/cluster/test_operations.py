"""Servers that are lost: another primary by hand, a new copy of a replica, and `up`, which repairs what is missing."""

from __future__ import annotations

import json

import pytest

from infra.docker.engine import docker
from infra.spec import etcd
from infra.spec.backup import PGDATA
from infra.spec.postgres_cluster import MEMBERS
from tests.infra.cluster.conftest import LiveCluster
from tests.promises import promise
from tests.scale import IS_FULL


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: it replaces two servers and a member of etcd")
@promise("a failover chooses the replica that has the most acknowledged writes, and says what may be lost")
@promise("`up` starts containers that were stopped, killed or paused")
def test_the_last_server_becomes_the_primary_and_up_repairs_the_others(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    (last,) = (member["Member"] for member in cluster.members() if member["Role"] == "Replica")
    others = [cluster.container(member) for member in MEMBERS if member != last]
    docker("kill", *others)
    docker("rm", "--force", cluster.container("etcd-3"))
    docker("volume", "rm", cluster.container("etcd-3-data"))
    done = json.loads(cluster.checkout.succeed("cluster", "failover", "--yes", "--json"))
    assert (done["to"], done["mayLoseWrites"]) == (last, True)
    cluster.checkout.succeed("up")
    cluster.wait_until_whole()
    assert cluster.primary() == cluster.container(last)
    stores = [cluster.container(member) for member in etcd.MEMBERS]
    assert [_members_that_ran(store) for store in stores] == [3, 3, 3]


def _members_that_ran(container: str) -> int:
    """Return how many members of etcd have run, according to one of them."""
    ask = """
        url=$(sed -n 's/^ *"advertise-client-urls": "\\(.*\\)",$/\\1/p' /etc/groundwork/etcd.yml)
        ETCDCTL_API=3 etcdctl --endpoints="$url" --cacert=/etc/groundwork/ca.crt \\
            --cert=/etc/groundwork/server.crt --key=/etc/groundwork/server.key member list
    """
    return docker("exec", container, "sh", "-euc", ask).count(":2379,")


@promise("`cluster reinit` copies a replica again in any state, and never the primary")
def test_a_replica_that_does_not_start_copies_the_primary_again(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    broken = next(member["Member"] for member in cluster.members() if member["Role"] == "Replica")
    container = cluster.container(broken)
    docker("exec", container, "rm", f"{PGDATA}/global/pg_control")
    docker("kill", container)
    docker("start", container)
    (primary,) = (member["Member"] for member in cluster.members() if member["Role"] == "Leader")
    refused = cluster.checkout.run("cluster", "reinit", primary, "--yes")
    assert (refused.returncode, f"{primary} is the primary of stack 'dev'" in refused.stderr) == (7, True)
    cluster.checkout.succeed("cluster", "reinit", broken, "--yes")
    cluster.wait_until_whole()

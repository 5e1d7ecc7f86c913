"""Servers that are lost: another primary by hand, a new copy of a replica, and `up`, which repairs what is missing."""

from __future__ import annotations

import json

import pytest
import yaml

from infra.docker.engine import docker, inspect
from infra.docker.members import patronictl
from infra.spec import etcd
from infra.spec.backup import PGDATA
from infra.spec.postgres_cluster import MEMBERS, SCOPE
from tests.containers import wait_until
from tests.infra.cluster.conftest import LIMIT_SECONDS, LiveCluster
from tests.infra.redis_replicas import environment, is_ready, primary_of
from tests.promises import promise
from tests.scale import IS_FULL

# Postgres accepts the value, but cannot reserve so much memory when it starts.
_TOO_MUCH = "4TB"


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: it restarts all servers, three times")
@promise("a parameter with which a server does not start takes down one replica at most")
@promise("`up` corrects a parameter with which no server starts")
def test_up_refuses_a_parameter_with_which_servers_do_not_start_and_applies_its_correction(
    cluster: LiveCluster,
) -> None:
    cluster.wait_until_whole()
    primary = cluster.primary()
    settings = yaml.safe_load((cluster.checkout.root / "Pulumi.dev.yaml").read_text())
    kept = {key.removeprefix("groundwork:"): value for key, value in settings["config"].items()}
    cluster.checkout.settings(**kept, postgresParameters={"shared_buffers": _TOO_MUCH})
    refused = cluster.checkout.run("up")
    assert refused.returncode != 0
    assert (
        "did not restart with the changed parameters: restart for member" in refused.stderr + refused.stdout
    )
    assert cluster.primary() == primary
    cluster.wait_until_whole()
    # After a reboot, every server would start with a value that is in etcd.
    patronictl(primary, "edit-config", SCOPE, "--pg", f"shared_buffers={_TOO_MUCH}", "--force", "--quiet")
    docker("restart", *(cluster.container(member) for member in MEMBERS))
    cluster.checkout.settings(**kept)
    cluster.checkout.succeed("up")
    cluster.wait_until_whole()


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
    assert (done["to"], done["mayLoseWrites"], done["flush"]) == (last, True, None)
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
    cluster.checkout.succeed("cluster", "reinit", broken, "--yes")
    cluster.wait_until_whole()


@promise("the access service follows a failover of Redis without a restart")
def test_the_access_service_follows_a_failover_of_redis(cluster: LiveCluster) -> None:
    access, primary = cluster.container("access"), primary_of(cluster.checkout)
    started = inspect("container", access)[0]["State"]["StartedAt"]
    docker("kill", primary)
    try:
        # Without a primary, the variable is absent.
        wait_until(lambda: "REDIS_PRIMARY_URL" in environment(cluster.checkout), LIMIT_SECONDS)
        assert primary_of(cluster.checkout) != primary
        wait_until(lambda: is_ready(cluster.checkout), LIMIT_SECONDS)
    finally:
        docker("start", primary)
    assert inspect("container", access)[0]["State"]["StartedAt"] == started

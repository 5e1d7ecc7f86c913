"""`groundwork chaos` on a stack with replicas: a run loses nothing, and a killed run leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.docker.engine import docker
from ops.chaos.journal import Journal
from ops.chaos.plan import FREEZE, KILL, PARTITION
from ops.errors import Exit
from tests.containers import wait_until
from tests.infra.cluster import chaos
from tests.infra.cluster.conftest import LIMIT_SECONDS, LiveCluster
from tests.promises import promise
from tests.scale import IS_FULL

_FAULTS = "kill,freeze,partition,restart,switchover,fill,slow" if IS_FULL else "freeze,partition,slow"


@promise("chaos undoes each of its faults")
@promise("no acknowledged write is lost when the primary is killed, frozen, cut off or moved")
def test_chaos_reports_a_run_without_losses(cluster: LiveCluster, tmp_path: Path) -> None:
    cluster.wait_until_whole()
    page = tmp_path / "chaos.html"
    report = json.loads(
        cluster.checkout.succeed(
            *("chaos", "--yes", "--json", "--html", str(page), "--seed", "11", "--faults", _FAULTS),
            *("--for", "5m" if IS_FULL else "20s"),
        )
    )
    assert (report["brokenPromises"], report["notRecovered"]) == ([], [])
    assert report["faults"]
    assert [each["problem"] for each in report["faults"]] == [""] * len(report["faults"])
    assert report["writes"]["acknowledged"] > 0
    assert report["writes"]["lost"] == 0
    assert report["reads"]["answered"] > 0
    assert page.read_text().count('class="span"') == 2 * len(report["faults"])
    assert cluster.sql("SELECT count(*) FROM groundwork.users WHERE github_id >= 2::numeric ^ 62") == "0"


@promise("chaos undoes each of its faults")
def test_a_killed_run_is_undone_by_its_watchdog(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    primary = cluster.primary()
    chaos.kill_command(chaos.begin(cluster.checkout, FREEZE, primary))
    wait_until(lambda: not chaos.is_frozen(primary), LIMIT_SECONDS)
    assert "no fault is left" in cluster.checkout.succeed("chaos", "stop")


@promise("the next command undoes what a killed run of chaos left")
@pytest.mark.parametrize("fault", [PARTITION, FREEZE, KILL] if IS_FULL else [PARTITION])
def test_the_next_command_undoes_what_a_killed_run_left(cluster: LiveCluster, fault: str) -> None:
    cluster.wait_until_whole()
    run = chaos.begin(cluster.checkout, fault, cluster.primary())
    chaos.kill_everything(cluster.checkout, run)
    journal = Journal(cluster.checkout.identity, "dev")
    assert [active.fault for active in journal.active()] == [fault]
    found = cluster.checkout.run("doctor", "--only", "chaos")
    assert found.returncode == Exit.MISMATCH
    assert "groundwork chaos stop" in " ".join(found.stdout.split())
    done = cluster.checkout.run(*(["up"] if IS_FULL else ["chaos", "stop"]))
    assert f"undid the {fault} of postgres" in done.stdout + done.stderr
    own = ("--filter", f"name=^{cluster.container('')}")
    listed = docker("ps", "--all", *own, "--format", "{{.Names}}").split()
    assert (len(listed) > 3, [name for name in listed if name.endswith("-chaos")]) == (True, [])
    # All servers stream again.
    cluster.wait_until_whole()
    assert journal.active() == []

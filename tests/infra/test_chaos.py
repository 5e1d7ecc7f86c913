"""`groundwork chaos` on a stack without replicas: every fault, and a stack that acknowledges writes too early."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops.chaos.plan import FAULTS, SWITCHOVER
from ops.errors import Exit
from tests.infra.checkout import CheckoutCopy
from tests.promises import promise
from tests.scale import IS_FULL

pytestmark = pytest.mark.skipif(not IS_FULL, reason="takes ten minutes: SCALE=full runs it")


def run(checkout: CheckoutCopy, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the report of a run."""
    done = checkout.run("chaos", "--yes", "--json", "--seed", "3", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@promise("chaos undoes each of its faults")
def test_every_fault_of_a_single_server_is_undone_and_loses_nothing(checkout: CheckoutCopy) -> None:
    checkout.settings(allowChaos=True)
    checkout.succeed("up")
    code, report = run(checkout, "--for", "5m")
    assert (code, report["brokenPromises"], report["notRecovered"]) == (0, [], [])
    assert {each["fault"] for each in report["faults"]} == {*FAULTS} - {SWITCHOVER}
    assert [each["problem"] for each in report["faults"]] == [""] * len(report["faults"])
    assert report["writes"]["acknowledged"] > 0
    assert checkout.run("doctor", "--only", "chaos").returncode == 0


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
def test_a_server_that_acknowledges_before_it_has_written_loses_writes(checkout: CheckoutCopy) -> None:
    checkout.settings(allowChaos=True, postgresParameters={"synchronous_commit": "off"})
    checkout.succeed("up")
    code, report = run(checkout, "--for", "3m", "--faults", "kill", "--services", "postgres")
    assert code == Exit.ERROR
    assert report["writes"]["lost"] > 0

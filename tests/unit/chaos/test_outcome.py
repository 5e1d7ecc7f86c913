"""What a run reports, and when it fails."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from ops.chaos.document import document, text
from ops.chaos.load import lost_writes
from ops.chaos.outcome import FaultOutcome, LoadOutcome, Run, Write
from ops.chaos.page import render
from ops.chaos.plan import FREEZE, KILL, SWITCHOVER, Step
from tests.promises import promise


@pytest.fixture
def run() -> Run:
    """A run of 60 s with a write each second, except from 10.5 to 30.5 s, when Postgres was frozen."""
    load = LoadOutcome(reads=900, unknown=2, unchecked="")
    for second in range(60):
        at = second + 0.5
        bucket = load.bucket(at)
        bucket.reads = 15
        if 11 <= second < 30:
            bucket.errors = 1
            load.errors.append((at, "OutcomeUnknown" if second < 13 else "Unavailable"))
        else:
            bucket.writes = 1
            load.writes.append(at)
    freeze = FaultOutcome(
        Step(11, FREEZE, "postgres primary", 15), "postgres", 11.0, 26.0, 31.0, took_effect=True
    )
    move = FaultOutcome(
        Step(40, SWITCHOVER, "postgres primary", 0), "postgres-2", 40.0, 43.0, 44.0, took_effect=True
    )
    kill = FaultOutcome(
        Step(50, KILL, "access", 5),
        "access",
        50.0,
        55.0,
        None,
        note="",
        problem="no engine",
        took_effect=True,
    )
    run = Run("dev", 7, 1_790_000_000.0, "data-access", has_replicas=True, seconds=60.0, load=load)
    run.faults = [freeze, move, kill]
    run.skipped = [(Step(58, KILL, "redis primary", 9), "no time was left")]
    return run


def test_the_gap_of_a_fault_is_the_longest_time_without_a_write(run: Run) -> None:
    assert [run.gap(each) for each in run.faults] == [20.0, 1.0, 1.0]
    assert run.load is not None
    run.load.writes = run.load.writes[:5]
    # Writes never came back.
    assert run.gap(run.faults[0]) == 55.5
    # The load began to write at once, and had no success.
    run.load.writes = []
    assert [run.gap(each) for each in run.faults] == [60.0, 60.0, 60.0]
    # The first success came after the fault, and the clients were ready before it.
    run.load.began, run.load.writes = 4.0, [50.0]
    assert run.gap(run.faults[0]) == 46.0
    assert [line.partition(":")[0] for line in run.broken_promises(strict=True)] == [
        "freeze of postgres (primary)",
        "switchover of postgres-2 (primary)",
        "kill of access",
    ]


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale")
def test_lost_writes_and_stale_reads_break_promises(run: Run) -> None:
    assert run.broken_promises(strict=False) == []
    assert run.load is not None
    run.load.lost = [Write(2**62, update, 1.0) for update in (1, 2, 3)]
    run.load.stale, run.program_code = 2, 9
    assert run.broken_promises(strict=False) == [
        "3 acknowledged writes were lost",
        "2 reads were stale",
        "the program of --load exited with 9",
    ]


def test_only_strict_limits_the_time_without_writes(run: Run) -> None:
    assert run.broken_promises(strict=True) == []
    assert run.load is not None
    run.load.writes = [at for at in run.load.writes if not 5 < at < 36 and not 38 < at < 55]
    found = run.broken_promises(strict=True)
    assert [line.partition(":")[0] for line in found] == [
        "freeze of postgres (primary)",
        "switchover of postgres-2 (primary)",
    ]
    run.has_replicas = False
    assert run.broken_promises(strict=True) == []


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
def test_rows_that_are_missing_are_counted_as_lost() -> None:
    rows = {1: "groundwork-chaos-0", 2: "groundwork-chaos-0", 10: "groundwork-chaos-5"}
    for added, updated, lost in (
        ({1, 2}, {10: [1, 4, 5]}, []),
        ({1}, {10: []}, []),
        ({1, 2, 3, 4}, {10: [5]}, [(3, 0), (4, 0)]),
        ({1}, {10: [3, 5, 6, 8]}, [(10, 6), (10, 8)]),
        (set[int](), {11: [0, 1]}, [(11, 0), (11, 1)]),
    ):
        writes = [(number, 0) for number in sorted(added)]
        writes += [(number, update) for number, updates in updated.items() for update in updates]
        found = lost_writes(rows, [Write(*each, 0.0) for each in writes])
        assert found == [Write(*each, 0.0) for each in lost], (added, updated)


def test_the_first_lost_writes_are_named(run: Run) -> None:
    assert run.load is not None
    run.load.lost = [Write(2**62, update, float(update)) for update in range(9, 1, -1)]
    run.load.lost.append(Write(2**62 + 70, 0, 1.25))
    lines = list(text(run))
    first = lines.index("lost     the insert of github_id 4611686018427387974, acknowledged at 1.2 s")
    assert lines[first - 1] == "writes   41 acknowledged, 9 of them lost, 2 without an answer"
    assert lines[first + 1] == "lost     update 2 of github_id 4611686018427387904, acknowledged at 2.0 s"
    assert (
        lines[first + 5]
        == "         the rows stay until the next run, or `groundwork chaos stop --stack dev`"
    )
    found = document(run, strict=False, path=None)["writes"]
    assert (found["lost"], len(found["lostWrites"])) == (9, 9)
    assert found["lostWrites"][1] == {
        "githubId": "4611686018427387904",
        "update": 2,
        "acknowledgedAt": 2.0,
    }


def test_the_text_lists_every_fault(run: Run) -> None:
    lines = list(text(run))
    assert re.search(r"11s +freeze +postgres \(primary\) +15\.0s +5\.0s +20\.0s +19", lines[1]), lines[1]
    assert lines[3].endswith("no engine")
    assert "skipped, no time was left" in lines[4]
    assert "writes   41 acknowledged, 0 of them lost, 2 without an answer" in lines
    assert "errors   Unavailable 17, OutcomeUnknown 2" in lines


def test_the_document_has_the_same_numbers(run: Run) -> None:
    found = json.loads(json.dumps(document(run, strict=False, path=None)))
    assert found["faults"][0]["writeGapSeconds"] == 20.0
    assert found["faults"][2]["recoverySeconds"] is None
    assert found["writes"] == {"acknowledged": 41, "unknown": 2, "lost": 0, "lostWrites": []}
    assert len(found["timeline"]) == 60
    assert found["startedAt"] == "2026-09-21T14:13:20+00:00"


def test_lost_writes_that_are_not_known_are_reported_as_such(run: Run) -> None:
    assert run.load is not None
    run.load.unchecked = "no primary"
    assert any("an unknown number of them lost" in line for line in text(run))
    assert document(run, strict=False, path=None)["writes"]["lost"] is None
    assert run.broken_promises(strict=False) == []
    assert "-</b>of them lost" in render(run, strict=False)
    # A loss that was noticed during the run is known.
    run.load.lost = [Write(2**62, 1, 1.0)]
    assert any("1 of them lost" in line for line in text(run))
    assert run.broken_promises(strict=False) == ["1 acknowledged writes were lost"]


def test_a_run_whose_load_was_not_answered_has_failed(run: Run) -> None:
    assert run.failed_faults() == []
    assert run.load is not None
    run.load.reads = 0
    assert run.failed_faults() == ["no read of the load was answered, so none was checked"]
    run.load.writes = []
    reason = "no write and no read of the load was answered, so none was checked"
    assert run.failed_faults() == [reason]
    assert document(run, strict=False, path=None)["failedFaults"] == [reason]
    assert reason in render(run, strict=False)
    lines = list(text(run))
    assert "writes   0 acknowledged, 2 without an answer" in lines
    assert "reads    0 answered" in lines
    run.was_stopped = True
    assert run.failed_faults() == []


def test_the_text_says_what_is_left(run: Run) -> None:
    assert not any(line.startswith("problem") for line in text(run))
    assert run.load is not None
    run.left, run.load.unchecked = ["redis-2 is exited"], "no primary"
    problems = ["not recovered: redis-2 is exited", "what was written was not looked up: no primary"]
    assert [*text(run)][-2:] == [f"problem  {each}" for each in problems]
    page = render(run, strict=False)
    assert all(each in page for each in problems)


def test_without_a_load_the_report_has_only_the_faults(run: Run) -> None:
    run.load = None
    assert document(run, strict=True, path=None)["writes"] is None
    assert not any(line.startswith("writes") for line in text(run))
    assert "<svg" not in render(run, strict=False)
    assert run.broken_promises(strict=True) == []


def test_the_page_marks_the_faults_in_the_plots(run: Run) -> None:
    page = render(run, strict=False)
    assert "<script" not in page
    assert page.count('class="span"') == 2 * len(run.faults)
    assert "#1: freeze postgres (primary)" in page
    assert "Not every promise held" not in page
    run.left = ["Postgres: <script>no primary"]
    page = render(run, strict=False)
    assert "Not every promise held" in page
    assert "<script" not in page
    sections = [page.index(f'id="{key}"') for key in ("writes", "reads", "faults", "errors")]
    assert all(before < after for before, after in pairwise(sections))

"""SIGKILL at every step of every kind of migration: the next run completes it."""

from __future__ import annotations

import pytest

from tests.conftest import Connection
from tests.faults.migrator.conftest import KILLED, Run, picture
from tests.integration.migrator.conftest import Write
from tests.promises import promise
from tests.scale import IS_FULL, scaled

# At full scale every step is tested. Otherwise one of six is, a different one for each kind: all kinds share the
# protocol.
STRIDE = scaled(6, 1)
# The seconds between the start of a step and the kill, so that the server is executing it.
DELAYS = [0.0, 0.002] if IS_FULL else [0.0]
MAKE = (
    "CREATE TABLE t (a int, b int) PARTITION BY RANGE (a);"
    "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);"
    "CREATE TABLE u (a int, b int); CREATE INDEX u_b_idx ON u (b);"
    "INSERT INTO t SELECT n, n FROM generate_series(1, 9999) n; INSERT INTO u SELECT * FROM t;"
)
ALONE = "-- no-transaction\n"
# Name to up and down script, for the tables above.
KINDS = {
    "several statements": (
        "CREATE TABLE v (a int);\nALTER TABLE u ALTER COLUMN b SET DEFAULT 1;\nUPDATE u SET b = b + 1;\n"
        "CREATE INDEX v_a_idx ON v (a);",
        "DROP TABLE v;\nALTER TABLE u ALTER COLUMN b DROP DEFAULT;",
    ),
    "no-transaction that could run in one": (f"{ALONE}CREATE TABLE v (a int);", f"{ALONE}DROP TABLE v;"),
    "create index concurrently": (
        f"{ALONE}CREATE UNIQUE INDEX CONCURRENTLY u_a_idx ON u (a);",
        f"{ALONE}DROP INDEX CONCURRENTLY u_a_idx;",
    ),
    "create index, dropped concurrently": (
        "CREATE INDEX u_a_idx ON u (a);",
        f"{ALONE}DROP INDEX CONCURRENTLY u_a_idx;",
    ),
    "drop index concurrently": (
        f"{ALONE}DROP INDEX CONCURRENTLY u_b_idx;",
        f"{ALONE}CREATE INDEX CONCURRENTLY u_b_idx ON u (b);",
    ),
    "reindex concurrently": (f"{ALONE}REINDEX TABLE CONCURRENTLY u;", "SELECT 1;"),
    "vacuum": (f"{ALONE}VACUUM (ANALYZE) u;", f"{ALONE}ANALYZE u;"),
    "detach concurrently": (
        f"{ALONE}ALTER TABLE t DETACH PARTITION t_1 CONCURRENTLY;",
        "ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (0) TO (10000);",
    ),
}


UP = ("up",)
DOWN = ("down", "--to", "1", "--yes")
# The other kinds are reverted in the same way as one of these, or as a kind is applied.
DOWN_KINDS = KINDS if IS_FULL else ["several statements", "create index concurrently", "detach concurrently"]
WAYS = [(kind, UP, DOWN) for kind in KINDS] + [(kind, DOWN, UP) for kind in DOWN_KINDS]


def succeed(run: Run, *arguments: str) -> int:
    """Run a command to its end, and return the number of its steps."""
    (outcome,) = run(*arguments)
    assert (outcome.code, outcome.error) == (0, "")
    return outcome.steps


@promise("a migration and its ledger row are all or nothing")
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(
    ("kind", "there", "back"), WAYS, ids=[f"{kind}-{there[0]}" for kind, there, _ in WAYS]
)
def test_a_migrator_killed_at_any_step_is_completed_by_the_next_run(
    run: Run,
    write: Write,
    owner: Connection,
    kind: str,
    there: tuple[str, ...],
    back: tuple[str, ...],
    delay: float,
) -> None:
    write("1_make.sql", MAKE)
    for name, sql in zip(("2_kind.up.sql", "2_kind.down.sql"), KINDS[kind], strict=True):
        write(name, sql)
    # Up, down and up again first: a partition that is attached again differs from a new one.
    for arguments in (("up", "--to", "1"), UP, DOWN, UP):
        succeed(run, *arguments)
    if there == UP:
        succeed(run, *back)
    steps = succeed(run, *there)
    goal = picture(owner)
    for step in range(1 + [*KINDS].index(kind) % STRIDE, steps + 1, STRIDE):
        succeed(run, *back)
        (killed,) = run(*there, kill_at=step, delay=delay)
        assert killed.code == KILLED or delay
        succeed(run, *there)
        assert picture(owner) == goal, f"killed at step {step} of {steps}"

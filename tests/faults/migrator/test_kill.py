"""SIGKILL at every step of every kind of migration, and of every command that changes something: run it again."""

from __future__ import annotations

import pytest

from tests.conftest import Connection
from tests.faults.migrator.conftest import KILLED, Run, picture
from tests.integration.migrator.conftest import Write
from tests.scale import IS_FULL, scaled

# Every step is tried at full scale, else one of three.
STRIDE = scaled(3, 1)
# How long after a step began: so that the server is at work on it.
DELAYS = [0.0, 0.002] if IS_FULL else [0.0]
MAKE = (
    "CREATE TABLE t (a int, b int) PARTITION BY RANGE (a);"
    "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);"
    "CREATE TABLE u (a int, b int); CREATE INDEX u_b_idx ON u (b);"
    "INSERT INTO t SELECT n, n FROM generate_series(1, 9999) n; INSERT INTO u SELECT * FROM t;"
)
ALONE = "-- no-transaction\n"
# name -> up and down, on the tables above
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


def succeed(run: Run, *arguments: str) -> int:
    """Run a command to its end; its number of steps."""
    (outcome,) = run(*arguments)
    assert (outcome.code, outcome.error) == (0, "")
    return outcome.steps


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("there", "back"), [(UP, DOWN), (DOWN, UP)], ids=["up", "down"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_step_a_migrator_was_killed_at_the_next_run_completes(
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
    # Once around: a partition that was attached again is not all that it was.
    for arguments in (("up", "--to", "1"), UP, DOWN, UP):
        succeed(run, *arguments)
    if there == UP:
        succeed(run, *back)
    steps = succeed(run, *there)
    goal = picture(owner)
    for step in range(1, steps + 1, STRIDE):
        succeed(run, *back)
        (killed,) = run(*there, kill_at=step, delay=delay)
        assert killed.code == KILLED or delay
        succeed(run, *there)
        assert picture(owner) == goal, f"killed at step {step} of {steps}"

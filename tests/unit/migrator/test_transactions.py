"""The transactions of a script, and the groups of statements that are sent together."""

from __future__ import annotations

from db.migrator.script import split_statements
from db.migrator.transactions import groups, transactions_of
from tests.cases import in_case

Texts = list[tuple[list[str], bool]]


def test_a_script_is_divided_where_it_commits_or_rolls_back() -> None:
    cases: list[tuple[str, Texts]] = [
        ("", [([], True)]),
        ("SELECT 1; SELECT 2", [(["SELECT 1", "SELECT 2"], True)]),
        ("BEGIN; SELECT 1; COMMIT;", [(["SELECT 1"], True)]),
        ("start transaction; SELECT 1; END", [(["SELECT 1"], True)]),
        ("SELECT 1; BEGIN WORK; SELECT 2", [(["SELECT 1", "SELECT 2"], True)]),
        ("BEGIN; SELECT 1; COMMIT; SELECT 2", [(["SELECT 1"], True), (["SELECT 2"], True)]),
        ("SELECT 1; ROLLBACK; SELECT 2", [(["SELECT 1"], False), (["SELECT 2"], True)]),
        ("SELECT 1; ABORT", [(["SELECT 1"], False)]),
        (
            "SAVEPOINT a; ROLLBACK TO a; ROLLBACK WORK TO a",
            [(["SAVEPOINT a", "ROLLBACK TO a", "ROLLBACK WORK TO a"], True)],
        ),
        ("PREPARE p AS SELECT 1", [(["PREPARE p AS SELECT 1"], True)]),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1",
            [(["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT 1"], True)],
        ),
        ("START TRANSACTION READ WRITE", [(["SET TRANSACTION READ WRITE"], True)]),
        (
            "BEGIN /* c */ WORK -- c\n READ WRITE, -- c\n DEFERRABLE",
            [(["SET TRANSACTION READ WRITE , DEFERRABLE"], True)],
        ),
        ("BEGIN -- c\n WORK; SELECT 1", [(["SELECT 1"], True)]),
    ]
    for sql, expected in cases:
        with in_case(sql, expected):
            found = transactions_of(split_statements(sql))
            assert [([s.text for s in each.statements], each.commits) for each in found] == expected


def test_the_modes_of_a_transaction_are_set_before_its_first_query() -> None:
    cases: list[tuple[str, list[int]]] = [
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1", [0]),
        ("SET LOCAL transaction READ WRITE; SET transaction_isolation = 'serializable'; SELECT 1", [0, 1]),
        (
            "SET work_mem = '1MB'; BEGIN READ WRITE; RESET work_mem; SET TRANSACTION DEFERRABLE; SELECT 1",
            [1, 3],
        ),
        ("reset/**/all; SET TRANSACTION READ WRITE", [1]),
        ("SELECT 1; SET TRANSACTION READ WRITE", []),
        ("SET TRANSACTION READ WRITE; SELECT 1; SET TRANSACTION READ WRITE", [0]),
        ("SET work_mem = '1MB'; SELECT 1", []),
    ]
    for sql, positions in cases:
        with in_case(sql, positions):
            (transaction,) = transactions_of(split_statements(sql))
            modes, others = transaction.without_modes()
            every = transaction.statements
            assert modes == tuple(every[n] for n in positions)
            assert others == tuple(every[n] for n in range(len(every)) if n not in positions)


def grouped(sql: str, *apart: int) -> list[tuple[str, int]]:
    return [(group.text.text, group.count) for group in groups(sql, split_statements(sql), apart)]


def test_statements_that_change_rows_are_sent_together() -> None:
    rows = "INSERT INTO t VALUES (1); -- one\n UPDATE t SET a = 2 ;\ndelete from t"
    sql = f"CREATE TABLE t ();{rows}; SELECT 1; INSERT INTO t VALUES (3); DROP TABLE t;"
    assert grouped(sql) == [
        ("CREATE TABLE t ()", 1),
        (rows, 3),
        ("SELECT 1", 1),
        ("INSERT INTO t VALUES (3)", 1),
        ("DROP TABLE t", 1),
    ]


def test_a_group_that_failed_is_sent_one_by_one() -> None:
    sql = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); SELECT 1; DELETE FROM t; DELETE FROM u"
    assert [count for _, count in grouped(sql)] == [2, 1, 2]
    assert [count for _, count in grouped(sql, 0)] == [1, 1, 1, 2]


def test_a_group_has_a_longest_length() -> None:
    sql = f"INSERT INTO t VALUES ('{'x' * 100_000}');\n" * 5
    assert [count for _, count in grouped(sql)] == [2, 2, 1]

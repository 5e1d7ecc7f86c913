"""Folders of unusual migrations that sqlx-cli 0.8.6 applies, and the tables that they create."""

from __future__ import annotations

FOLDERS: dict[str, tuple[dict[str, str], set[str]]] = {
    "its own transaction": (
        {"1_a.sql": "BEGIN;\nCREATE TABLE a ();\nCOMMIT;\n", "2_b.sql": "CREATE TABLE b ()"},
        {"a", "b"},
    ),
    "modes of its own transaction": (
        {"1_a.sql": "BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE a (); COMMIT"},
        {"a"},
    ),
    "several transactions": (
        {"1_a.sql": "CREATE TABLE a (); COMMIT; BEGIN; CREATE TABLE b (); END; CREATE TABLE c ()"},
        {"a", "b", "c"},
    ),
    "a rollback": (
        {"1_a.sql": "CREATE TABLE a (); ROLLBACK; CREATE TABLE b ()", "2_b.sql": "CREATE TABLE c (); ABORT"},
        {"b"},
    ),
    "another encoding": (
        {
            "1_a.sql": "SET client_encoding = 'LATIN1'; SET standard_conforming_strings = off;"
            " CREATE TABLE a (ü text DEFAULT 'ü \\n'); COMMIT; CREATE TABLE b (ü int)"
        },
        {"a", "b"},
    ),
    "an unfinished transaction": ({"1_a.sql": "START TRANSACTION; CREATE TABLE a ()"}, {"a"}),
    "modes": (
        {
            "1_a.sql": "-- first\nSET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nCREATE TABLE a ()",
            "2_b.sql": "SET LOCAL TRANSACTION ISOLATION LEVEL REPEATABLE READ; CREATE TABLE b ()",
            "3_c.sql": "SET transaction_isolation = 'serializable'; CREATE TABLE c ()",
        },
        {"a", "b", "c"},
    ),
    "modes after settings": (
        {
            "1_a.sql": "SET statement_timeout = 0; BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE a (); COMMIT",
            "2_b.sql": "SET LOCAL lock_timeout = '1s'; RESET work_mem; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;"
            " CREATE TABLE b ()",
            "3_c.sql": "BEGIN; CREATE TABLE c (); COMMIT; SET work_mem = '8MB'; BEGIN ISOLATION LEVEL REPEATABLE READ;"
            " CREATE TABLE d (); COMMIT",
        },
        {"a", "b", "c", "d"},
    ),
    "several statements without a transaction": (
        {
            "1_a.sql": "CREATE TYPE e AS ENUM ('a'); CREATE TABLE a (x e)",
            "2_b.sql": "-- no-transaction\nALTER TYPE e ADD VALUE 'b';\nALTER TYPE e ADD VALUE 'c';",
            "3_c.sql": "-- no-transaction\nCREATE TABLE b (); COMMIT; CREATE TABLE c ()",
        },
        {"a", "b", "c"},
    ),
    "a down file of a simple one": ({"1_a.sql": "CREATE TABLE a ()", "1_a.down.sql": "DROP TABLE a"}, {"a"}),
    "a down file of none": ({"1_a.sql": "CREATE TABLE a ()", "2_b.down.sql": "DROP TABLE b"}, {"a"}),
    "an index without a name": (
        {
            "1_a.sql": "CREATE TABLE a (id int)",
            "2_b.sql": "-- no-transaction\nCREATE INDEX CONCURRENTLY ON a (id)",
        },
        {"a"},
    ),
    "comments like a phase": (
        {"1_a.sql": "-- phase: 2 of 3\nCREATE TABLE a ()", "2_b.sql": "-- phase: two\nCREATE TABLE b ()"},
        {"a", "b"},
    ),
}

"""The pools of an application must fit into the connection limits of the role and the server."""

from __future__ import annotations

from db.connection_limit import connection_problem
from db.rows import ConnectionLimit
from tests.cases import in_case


def test_the_smaller_limit_counts() -> None:
    cases: list[tuple[int, int, int, bool]] = [
        (9, 97, 9, True),
        (9, 97, 10, False),
        (-1, 97, 97, True),
        (-1, 97, 98, False),
        (200, 97, 98, False),
    ]
    for role_limit, server_limit, wanted, fits in cases:
        with in_case(role_limit, server_limit, wanted, fits):
            assert (connection_problem(ConnectionLimit(role_limit, server_limit), wanted) is None) is fits

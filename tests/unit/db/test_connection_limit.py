"""The pools of an application must fit into the connection limits of the role and the server."""

from __future__ import annotations

import pytest

from db.connection_limit import connection_problem
from db.rows import ConnectionLimit


@pytest.mark.parametrize(
    ("role_limit", "server_limit", "wanted", "fits"),
    [(9, 97, 9, True), (9, 97, 10, False), (-1, 97, 97, True), (-1, 97, 98, False), (200, 97, 98, False)],
)
def test_the_smaller_limit_counts(role_limit: int, server_limit: int, wanted: int, fits: bool) -> None:
    assert (connection_problem(ConnectionLimit(role_limit, server_limit), wanted) is None) is fits

"""How many connections a login may have, and whether an application's pools fit into them."""

from __future__ import annotations

from db.named_query import queries
from db.rows import ConnectionLimit

READ_CONNECTION_LIMIT = queries("schema")["read_connection_limit"]


def connection_problem(limit: ConnectionLimit, wanted: int) -> str | None:
    """Why so many connections of one login cannot be had, or None."""
    most = limit.server_limit if limit.role_limit < 0 else min(limit.role_limit, limit.server_limit)
    if wanted <= most:
        return None
    return (
        f"the pools may open {wanted} connections and the role may have {most}; lower the pool's size"
        " (GROUNDWORK_POOL_SIZE) or the number of instances, or raise the role's limit"
    )

"""Check an application's pools against the connection limit of its login."""

from __future__ import annotations

from db.named_query import queries
from db.rows import ConnectionLimit

READ_CONNECTION_LIMIT = queries("schema")["read_connection_limit"]


def connection_problem(limit: ConnectionLimit, wanted: int) -> str | None:
    """Return why one login cannot open `wanted` connections, or None if it can."""
    most = limit.server_limit if limit.role_limit < 0 else min(limit.role_limit, limit.server_limit)
    if wanted <= most:
        return None
    return (
        f"the pools may open {wanted} connections and the role may have {most}; lower the pool's size"
        " (GROUNDWORK_POOL_SIZE) or the number of instances, or raise the role's limit"
    )

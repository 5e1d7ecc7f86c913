"""Finds Postgres logins that can do more than the last `up` left them: Postgres lets a role change its own password."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infra.spec import roles

# For the superuser: only it may read pg_authid. The query reads nothing that another role owns.
QUERY = f"""
SELECT rolname AS name, rolcanlogin AS can_login,
       coalesce(encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex'), '') AS digest,
       (SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_authid.oid) AS sessions
FROM pg_authid WHERE rolname IN ({roles.quoted(roles.ALL_LOGINS)}) ORDER BY 1
"""


def login_differences(rows: Iterable[Mapping[str, Any]], digests: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each difference between QUERY's rows and the stack.

    `digests` maps each login that may log in to `infra.spec.roles.verifier_digest` of its verifier. Every other login
    is retired: it must have no LOGIN, no password and no session.
    """
    for row in rows:
        name, digest = row["name"], digests.get(row["name"], "")
        is_retired = not digest
        if row["can_login"] == is_retired:
            yield f"{name} can log in and is retired" if is_retired else f"{name} cannot log in"
        if row["digest"] != digest:
            has = "has another password than the stack's" if row["digest"] else "has no password"
            yield f"{name} has a password and is retired" if is_retired else f"{name} {has}"
        if is_retired and row["sessions"]:
            yield f"{name} has {row['sessions']} sessions and is retired"

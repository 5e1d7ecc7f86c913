"""Finds Postgres logins that can do more than the last `up` left them: Postgres lets a role change itself.

A role can set its own password and its own settings, which apply when it logs in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infra.spec import roles

_GROUPS = (roles.OWNER, *roles.PRIVILEGE_SETS)
# For the superuser: only it may read pg_authid. The query reads nothing that another role owns.
QUERY = f"""
SELECT rolname AS name, rolcanlogin AS can_login,
       coalesce(encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex'), '') AS digest,
       (SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_authid.oid) AS sessions,
       ARRAY(SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = pg_authid.oid) AS settings
FROM pg_authid WHERE rolname IN ({roles.quoted((*_GROUPS, *roles.ALL_LOGINS))}) ORDER BY 1
"""


def login_differences(rows: Iterable[Mapping[str, Any]], digests: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each difference between QUERY's rows and the stack.

    `digests` maps each login that may log in to `infra.spec.roles.verifier_digest` of its verifier. Every other login
    is retired: it must have no LOGIN, no password and no session. The same applies to the other roles.
    """
    settings = {login.name: login.settings for group in roles.LOGINS.values() for login in group}
    for row in rows:
        name, digest = row["name"], digests.get(row["name"], "")
        is_out = not digest
        why = "is not a login" if name in _GROUPS else "is retired"
        if row["can_login"] and name in _GROUPS:
            yield f"{name} may log in"
        elif row["can_login"] == is_out:
            yield f"{name} can log in and {why}" if is_out else f"{name} cannot log in"
        if row["digest"] != digest:
            has = "has another password than the stack's" if row["digest"] else "has no password"
            yield f"{name} has a password and {why}" if is_out else f"{name} {has}"
        if is_out and row["sessions"]:
            yield f"{name} has {row['sessions']} sessions and {why}"
        yield from setting_differences(name, row["settings"], settings.get(name, {}))


def setting_differences(name: str, found: Iterable[str], wanted: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each setting of a role (`name=value`) that differs from the wanted ones."""
    live = {key.lower(): value for key, _, value in (entry.partition("=") for entry in found)}
    expected = {key.lower(): value for key, value in wanted.items()}
    for key in sorted(live.keys() | expected.keys()):
        if live.get(key) != expected.get(key):
            yield f"{name} has {key} = {live.get(key, 'nothing')} and should have {expected.get(key, 'nothing')}"

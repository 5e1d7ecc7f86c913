"""Refuse to delete a key that users' tokens are encrypted with. Only Pulumi's state has the keys.

Reads the ids of the keys from the ciphertexts in Postgres (docs/tokens.md has their format).
"""

from __future__ import annotations

from collections.abc import Collection

from infra.docker.engine import DockerError, psql
from infra.docker.members import NoPrimary, primary_container
from infra.spec.roles import DATABASE
from ops.errors import Exit, OpsError

# Another application's migrations may have no such table.
_HAS_TOKENS = """\
SELECT count(*) = 2 FROM pg_attribute
WHERE attrelid = to_regclass('groundwork.users') AND attname IN ('access_token', 'refresh_token')
  AND atttypid = 'bytea'::regtype AND NOT attisdropped"""
_IDS = """\
SELECT DISTINCT encode(substr(token, 3, get_byte(token, 1)), 'escape')
FROM groundwork.users, unnest(ARRAY[access_token, refresh_token]) AS token
WHERE length(token) > 2"""


def refuse_to_lose_keys(stack: str, container: str, known: Collection[str], wanted: Collection[str]) -> None:
    """Raise OpsError (7) if an `up` would delete a key that tokens in Postgres still need.

    `container` is that of the first Postgres server. `known` are the ids of the keys that the state has, `wanted` those
    of the setting.
    """
    lost = sorted(set(known) - set(wanted))
    if not lost:
        return
    try:
        used = _used(primary_container(container)).intersection(lost)
    except (DockerError, NoPrimary) as error:
        raise OpsError(
            f"cannot read which keys users' tokens need ({error}), and groundwork:tokenKeys no longer names"
            f" {', '.join(lost)}; name {_them(lost)} again, run `groundwork up --stack {stack}`, and remove"
            f" {_them(lost)} after that",
            Exit.REFUSED,
        ) from error
    if used:
        raise OpsError(
            f"users' tokens are encrypted with key {', '.join(sorted(used))}, which groundwork:tokenKeys no longer"
            " names, and without it they are lost; name it again after the new key, run"
            f" `groundwork up --stack {stack}`, and then `groundwork tokens rotate --stack {stack}`",
            Exit.REFUSED,
        )


def _used(container: str) -> set[str]:
    if psql(container, _HAS_TOKENS, database=DATABASE).strip() != "t":
        return set()
    return set(psql(container, _IDS, database=DATABASE, timeout_seconds=600).split())


def _them(ids: Collection[str]) -> str:
    return "it" if len(ids) == 1 else "them"

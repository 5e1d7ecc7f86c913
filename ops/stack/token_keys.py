"""Refuse to delete a key that users' tokens are encrypted with. Only Pulumi's state has the keys.

Reads the ids of the keys from the ciphertexts in Postgres (docs/tokens.md has their format).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ops.errors import Exit, OpsError
from ops.servers.errors import one_line

# Another application's migrations may have no such table.
_HAS_TOKENS = """\
SELECT count(*) = 2 FROM pg_attribute
WHERE attrelid = to_regclass('groundwork.users') AND attname IN ('access_token', 'refresh_token')
  AND atttypid = 'bytea'::regtype AND NOT attisdropped"""
_IDS = """\
SELECT DISTINCT encode(substr(token, 3, get_byte(token, 1)), 'escape')
FROM groundwork.users, unnest(ARRAY[access_token, refresh_token]) AS token
WHERE length(token) > 2"""


def refuse_to_lose_keys(
    stack: str, app_url: Callable[[], str | None], known: Collection[str], wanted: Collection[str]
) -> None:
    """Raise OpsError (7) if an `up` would delete a key that tokens in Postgres still need.

    `known` are the ids of the keys that the state has, `wanted` those of the setting. `app_url` returns the URL of role
    app, or None if there are no tokens yet. A superuser must not read the table: its owner could replace it by a view.
    """
    lost = sorted(set(known) - set(wanted))
    if not lost:
        return
    url = app_url()
    if url is None:
        return
    import psycopg

    try:
        used = _used(url).intersection(lost)
    except psycopg.Error as error:
        raise OpsError(
            f"cannot check whether users' tokens still need key {', '.join(lost)} ({one_line(error)}), which was"
            f" removed from groundwork:tokenKeys; put {_them(lost)} back, run `groundwork up --stack {stack}`, and"
            f" remove {_them(lost)} after that",
            Exit.REFUSED,
        ) from error
    if used:
        raise OpsError(
            f"cannot remove key {', '.join(sorted(used))} from groundwork:tokenKeys: users' tokens are still encrypted"
            f" with {_them(used)}, and would be lost; put {_them(used)} back after the new key, run"
            f" `groundwork up --stack {stack}`, then `groundwork tokens rotate --stack {stack}`",
            Exit.REFUSED,
        )


def _used(url: str) -> set[str]:
    from db.session import connect

    # The scan of a large table takes longer than the time limit of role app.
    with connect(url, options="-c statement_timeout=0") as connection:
        if connection.execute(_HAS_TOKENS).fetchone() != (True,):
            return set()
        return {key_id for (key_id,) in connection.execute(_IDS)}


def _them(ids: Collection[str]) -> str:
    return "it" if len(ids) == 1 else "them"

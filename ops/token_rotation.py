"""Brings users' tokens under the current key, batch by batch, while everybody goes on reading and writing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cache.url_source import UrlSource
from db.errors import InvalidSetting
from db.settings import DatabaseSettings
from db.token_keys import VARIABLE, TokenKeys
from ops.database_url import resolve_database_url


@dataclass
class Rotation:
    """What a rotation did: under which key, how many users have tokens, how many were changed."""

    key: str
    users: int = 0
    rotated: int = 0
    unreadable: list[str] = field(default_factory=list)


def token_keys(stack: str) -> TokenKeys:
    """The keys of the environment, or else the stack's."""
    import os

    if os.environ.get(VARIABLE) or os.environ.get(f"{VARIABLE}_FILE"):
        return TokenKeys.from_environment()
    from ops.connections import token_keys_of

    return TokenKeys.of(token_keys_of(stack))


def rotate_tokens(
    url: str | None, stack: str, keys: TokenKeys, batch_size: int, progress: Callable[[str], None]
) -> Rotation:
    """Rotate them all. `progress` is told after each batch. A killed one is done by the next: nothing is kept."""
    from db._sync.pool import Pool
    from db._sync.tokens import TokenVault

    source = UrlSource("DATABASE_URL", InvalidSetting, resolve_database_url(url, role="app", stack=stack))
    done = Rotation(keys.keyring().current)
    pool = Pool(DatabaseSettings(source, pool_size=1), name="token-rotation")
    pool.open()
    try:
        vault = TokenVault(pool, keys)
        after_id = 0
        while True:
            batch = vault.rotate(after_id, batch_size)
            if batch.last_id is None:
                return done
            after_id = batch.last_id
            done.users += batch.users
            done.rotated += batch.rotated
            done.unreadable += batch.unreadable
            progress(f"users up to id {after_id}: {done.rotated} of {done.users} changed")
    finally:
        pool.close()

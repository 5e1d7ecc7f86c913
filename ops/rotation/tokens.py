"""Re-encrypt users' tokens with the current key, batch by batch, while applications keep using them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cache.url_source import UrlSource
from db.errors import InvalidSetting
from db.settings import DatabaseSettings
from db.token_keys import VARIABLE, TokenKeys
from infra.spec.checkout import is_checkout
from infra.spec.variables import source_variable
from ops.errors import Exit, OpsError
from ops.output import print_line
from ops.stack.database_url import TOKEN_POOL_SECONDS, database_to_change, require_database

if TYPE_CHECKING:
    from db._sync.tokens import TokenVault
    from db.crypto import Keyring


# A pass that changes nothing proves that the rotation is complete. If the third pass still finds tokens, a program
# still encrypts with another key.
_PASSES = 3


@dataclass
class TokenRotation:
    """The result of a rotation: the current key, the number of users with tokens, and the number of changes.

    `advice` says what to do with the other keys after a complete rotation, and is empty if there are none.
    `is_complete`: the last pass over all users found nothing to change. `unreadable` describes the tokens that cannot
    be decrypted; they are left unchanged.
    """

    key: str
    advice: str = ""
    users: int = 0
    rotated: int = 0
    unreadable: list[str] = field(default_factory=list)
    is_complete: bool = False


def token_keys(url: str | None, stack: str) -> TokenKeys:
    """Return the environment's keys, or the stack's, for the database of `rotate_tokens`.

    Raise OpsError (2) if the database is the stack's and the environment has another first key. The shell may have keys
    of an earlier `groundwork env`, and the rotation would encrypt with a key that is to be removed.
    """
    name = source_variable(VARIABLE)
    if not is_checkout():
        if name is None:
            raise OpsError(f"no keys are given; set {VARIABLE} in the environment", Exit.USAGE)
        return TokenKeys.from_environment()
    from ops.stack.connections import token_keys_of

    if name is None:
        return TokenKeys.of(token_keys_of(stack))
    keys = TokenKeys.from_environment()
    if _is_database_of_stack(url):
        first, expected = keys.keyring().current, TokenKeys.of(token_keys_of(stack)).keyring().current
        if first != expected:
            raise OpsError(
                f"{name} begins with key {first!r}, but the keys of stack {stack!r} begin with {expected!r};"
                f" unset {name} to use the stack's keys",
                Exit.USAGE,
            )
    return keys


def rotate_tokens(
    url: str | None, stack: str, keys: TokenKeys, batch_size: int, progress: Callable[[str], None]
) -> TokenRotation:
    """Rotate all tokens, calling `progress` after each batch. Keeps no state: after a kill, simply run it again."""
    from db._sync.pool import Pool
    from db._sync.tokens import TokenVault

    database = database_to_change(url, role="app", stack=stack)
    require_database(database)
    source = UrlSource("DATABASE_URL", InvalidSetting, database)
    done = _announced(keys.keyring(), url, stack)
    pool = Pool(
        DatabaseSettings(source, pool_size=1, max_lifetime_seconds=TOKEN_POOL_SECONDS), name="token-rotation"
    )
    pool.open()
    try:
        vault = TokenVault(pool, keys)
        for _ in range(_PASSES):
            before = done.rotated
            _go_through(vault, done, batch_size, progress)
            if done.rotated == before:
                done.is_complete = True
                break
        return done
    finally:
        pool.close()


def _announced(keyring: Keyring, url: str | None, stack: str) -> TokenRotation:
    """Print which keys are used and where they come from, and return a rotation that has not begun."""
    name = source_variable(VARIABLE)
    ids = ", ".join([keyring.current, *keyring.older])
    print_line(f"keyring: {ids}, from {name or f'stack {stack!r}'}", err=True)
    older = ", ".join(keyring.older)
    advice = older and (
        f"no token in this database needs the other keys ({older}); remove older ones when you need no older backup"
    )
    if older and name is None and not _is_database_of_stack(url):
        advice = (
            f"before you remove another key ({older}), check that this is the database of stack {stack!r}"
        )
    return TokenRotation(keyring.current, advice)


def _is_database_of_stack(url: str | None) -> bool:
    return url is None and source_variable("DATABASE_URL") is None


def _go_through(
    vault: TokenVault, done: TokenRotation, batch_size: int, progress: Callable[[str], None]
) -> None:
    done.users, done.unreadable, after_id = 0, [], 0
    while True:
        batch = vault.rotate(after_id, batch_size)
        if batch.last_id is None:
            return
        after_id = batch.last_id
        done.users += batch.users
        done.rotated += batch.rotated
        done.unreadable += batch.unreadable
        progress(f"users up to id {after_id}: {done.users} checked, {done.rotated} changed")

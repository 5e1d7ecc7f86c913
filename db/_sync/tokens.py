# Generated from db/_async/tokens.py by scripts/generate_sync.py; edit that, not this.
"""Users' tokens: encrypted before they are sent, never cached, and never part of a User."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from psycopg.rows import class_row, scalar_row

from db._sync.pool import Pool
from db.crypto import Keyring, Place, key_id_of
from db.errors import NotFound, TokenUnreadable
from db.models import Tokens
from db.named_query import queries
from db.rows import RotatedTokens, SealedTokens
from db.token_keys import TokenKeys
from db.validation import bigint, text

_QUERIES = queries("tokens")
_ROW = class_row(SealedTokens)
_COLUMNS = ("access_token", "refresh_token")
# How many users one statement of a rotation reads at most. It must end long before the statement timeout.
_WINDOW = 10_000


class TokenVault:
    """The token columns of table users. Writing them does not change the user's row_version."""

    def __init__(self, pool: Pool, keys: TokenKeys) -> None:
        self._pool = pool
        self._keys = keys

    def get(self, user_id: int) -> Tokens:
        """Return a user's decrypted tokens.

        Raises NotFound, TokenUnreadable if a token cannot be decrypted, and UnknownTokenKey if its key is missing.
        """
        sealed = self._find(bigint("user_id", user_id))
        # Read after the row, because another process may have got a new key and used it while this call waited.
        keyring = self._keys.keyring()
        return Tokens(*(_opened(keyring, sealed, column) for column in _COLUMNS))

    def set(
        self,
        user_id: int,
        *,
        access_token: str | UnsetType | None = UNSET,
        refresh_token: str | UnsetType | None = UNSET,
    ) -> None:
        """Encrypt and write a user's tokens. A token left out is kept; None removes it. Raises NotFound."""
        keyring = self._keys.keyring()
        user_id = bigint("user_id", user_id)
        parameters: dict[str, Any] = {"id": user_id}
        for column, value in zip(_COLUMNS, (access_token, refresh_token), strict=True):
            parameters[f"sets_{column}"] = value is not UNSET
            parameters[column] = (
                None
                if value is None or value is UNSET
                else keyring.encrypt(text(column, value, empty=False), _place(user_id, column))
            )
        if self._pool.fetch_one(_QUERIES["set_tokens"], parameters, scalar_row) is None:
            raise NotFound("user", f"id {user_id}")

    def rotate(self, after_id: int, limit: int) -> RotatedTokens:
        """Re-encrypt the tokens of up to `limit` users with the current key.

        Reads at most the next 10,000 users after `after_id`, with or without tokens. The result names the tokens that
        cannot be decrypted. Each change of a user is one statement, so no lock is held longer. Tokens that a writer
        sets in the meantime are not overwritten.
        """
        found = self._pool.fetch_all(
            _QUERIES["list_tokens"], {"after_id": after_id, "window": _WINDOW, "limit": limit}, _ROW
        )
        keyring = self._keys.keyring()
        users = rotated = 0
        unreadable: list[str] = []
        for sealed in found:
            is_rotated, problems = self._rotate_one(keyring, sealed)
            users += any(getattr(sealed, column) is not None for column in _COLUMNS)
            rotated += is_rotated
            unreadable += problems
        return RotatedTokens(found[-1].id if found else None, users, rotated, unreadable)

    def _rotate_one(self, keyring: Keyring, sealed: SealedTokens) -> tuple[bool, list[str]]:
        while True:
            old = {column: getattr(sealed, column) for column in _COLUMNS}
            renewed, problems = dict(old), []
            for column in _COLUMNS:
                try:
                    renewed[column] = _renewed(keyring, sealed, column)
                except TokenUnreadable as error:
                    # The user's other token is still re-encrypted.
                    problems.append(str(error))
            if renewed == old:
                return False, problems
            parameters = {"id": sealed.id, **renewed, **{f"old_{column}": old[column] for column in _COLUMNS}}
            if self._pool.fetch_one(_QUERIES["swap_tokens"], parameters, scalar_row) is not None:
                return True, problems
            try:
                sealed = self._find(sealed.id)
            except NotFound:
                return False, []
            keyring = self._keys.keyring()

    def _find(self, user_id: int) -> SealedTokens:
        sealed = self._pool.fetch_one(_QUERIES["find_tokens"], {"id": user_id}, _ROW)
        if sealed is None:
            raise NotFound("user", f"id {user_id}")
        return sealed


def _place(user_id: int, column: str) -> Place:
    return Place("users", user_id, column)


def _opened(keyring: Keyring, sealed: SealedTokens, column: str) -> str | None:
    ciphertext = getattr(sealed, column)
    return None if ciphertext is None else keyring.decrypt(ciphertext, _place(sealed.id, column))


def _renewed(keyring: Keyring, sealed: SealedTokens, column: str) -> bytes | None:
    """Return the column's ciphertext under the current key: the same bytes if it is already."""
    ciphertext: bytes | None = getattr(sealed, column)
    if ciphertext is None:
        return None
    place = _place(sealed.id, column)
    # Decrypt even what is under the current key, so that every unreadable token is reported before a key is dropped.
    text_in_clear = keyring.decrypt(ciphertext, place)
    if key_id_of(ciphertext, place) == keyring.current:
        return ciphertext
    return keyring.encrypt(text_in_clear, place)

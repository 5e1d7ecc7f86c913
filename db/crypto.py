"""Encrypt and decrypt tokens with AES-256-GCM, under one of several keys.

Layout of a ciphertext:

    version (1 byte) | length of the key id (1 byte) | key id | nonce (12 bytes) | ciphertext and tag

Table, row, column and key id are authenticated. A ciphertext that was moved to another row or column cannot be
decrypted.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from db.errors import InvalidSetting, TokenUnreadable, UnknownTokenKey

_VERSION = 1
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
KEY_BYTES = 32


@dataclass(frozen=True)
class Place:
    """The table, row and column that hold a ciphertext."""

    table: str
    row: int
    column: str

    def __str__(self) -> str:
        return f"{self.column} of {self.table} row {self.row}"


class Keyring:
    """Encryption keys by id. The first key encrypts; every key decrypts. `repr` and messages show only ids.

    `current` is the id of the first key, and `older` has the ids of the others.
    """

    __slots__ = ("_ciphers", "current", "older")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` maps an id to a key of 32 bytes; the first key encrypts."""
        if not keys:
            raise InvalidSetting("a keyring needs a key")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.current, *self.older = keys

    @classmethod
    def parse(cls, text: str, variable: str) -> Keyring:
        """Return the keyring written as `id:base64url,id:base64url`.

        Raises InvalidSetting if it cannot be parsed. The message names `variable` and shows no key.
        """
        keys: dict[str, bytes] = {}
        for position, item in enumerate(text.strip().split(","), start=1):
            key_id, colon, encoded = item.strip().partition(":")
            if not colon or not _KEY_ID.fullmatch(key_id):
                raise InvalidSetting(
                    f"{variable}: key {position} has no valid id; write id:key with an id of a-z, 0-9, - and _"
                )
            if key_id in keys:
                raise InvalidSetting(f"{variable}: key {key_id} is listed twice; remove one of them")
            keys[key_id] = _key(encoded, key_id, variable)
        return cls(keys)

    def encrypt(self, text: str, place: Place) -> bytes:
        """Return `text` encrypted with the current key. Each call returns a different ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        key_id = self.current.encode()
        sealed = self._ciphers[self.current].encrypt(nonce, text.encode(), _bound(place, key_id))
        return bytes((_VERSION, len(key_id))) + key_id + nonce + sealed

    def decrypt(self, ciphertext: bytes, place: Place) -> str:
        """Return the decrypted text.

        Raises TokenUnreadable if the ciphertext was changed or moved, and UnknownTokenKey if its key is missing here.
        """
        key_id = key_id_of(ciphertext, place)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownTokenKey(str(place), key_id)
        start = 2 + len(key_id)
        nonce, sealed = ciphertext[start : start + _NONCE_BYTES], ciphertext[start + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, sealed, _bound(place, key_id.encode())).decode()
        except (InvalidTag, ValueError):
            # Not chained: the cause has no information, and one of its frames holds the key.
            raise TokenUnreadable(
                str(place), "it was changed, moved, or encrypted with another key"
            ) from None

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"


def key_id_of(ciphertext: bytes, place: Place) -> str:
    """Return the id of the key that a ciphertext was made with. Raises TokenUnreadable for any other bytes."""
    length = ciphertext[1] if len(ciphertext) > 1 else 0
    key_id = ciphertext[2 : 2 + length]
    if ciphertext[:1] != bytes((_VERSION,)) or not _KEY_ID.fullmatch(key_id.decode("latin-1")):
        raise TokenUnreadable(str(place), "it is not in groundwork's ciphertext format")
    return key_id.decode()


def _bound(place: Place, key_id: bytes) -> bytes:
    # Of an Enum of integers, str() would be its name.
    row = str(int(place.row))
    return b"\0".join((place.table.encode(), row.encode(), place.column.encode(), key_id))


def _key(encoded: str, key_id: str, variable: str) -> bytes:
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidSetting(
            f"{variable}: key {key_id} is not {KEY_BYTES} bytes in base64url; make one with"
            " `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        ) from None
    return key

"""Encrypted tokens: which ciphertexts can be decrypted, and which cannot."""

from __future__ import annotations

import secrets
import traceback
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.url_source import UrlSource
from db.crypto import Keyring, Place
from db.errors import InvalidSetting, TokenUnreadable
from db.models import Tokens
from db.token_keys import TokenKeys
from tests.cases import in_case
from tests.promises import promise

KEY = secrets.token_bytes(32)
PLACE = Place("users", 7, "access_token")
RING = Keyring({"k1": KEY})


@given(st.text(max_size=300))
def test_a_token_is_decrypted_with_its_own_context(text: str) -> None:
    if not text.isascii():
        text = text.encode(errors="ignore").decode()
    assert RING.decrypt(RING.encrypt(text, PLACE), PLACE) == text


def test_the_same_text_never_has_the_same_ciphertext() -> None:
    assert RING.encrypt("secret", PLACE) != RING.encrypt("secret", PLACE)


@promise("a token that was changed, or moved to another row or column, cannot be decrypted")
def test_a_ciphertext_of_another_row_is_refused() -> None:
    cases: list[Place] = [
        Place("users", 8, "access_token"),
        Place("users", 7, "refresh_token"),
        Place("others", 7, "access_token"),
    ]
    for elsewhere in cases:
        with in_case(elsewhere):
            with pytest.raises(TokenUnreadable, match="changed, moved"):
                RING.decrypt(RING.encrypt("secret", PLACE), elsewhere)


class Member(int, Enum):
    ADA = 7


def test_a_row_given_as_a_member_of_an_enum_is_the_row_of_its_number() -> None:
    sealed = RING.encrypt("secret", Place("users", Member.ADA, "access_token"))
    assert RING.decrypt(sealed, PLACE) == "secret"


@promise("a token that was changed, or moved to another row or column, cannot be decrypted")
def test_a_change_of_any_byte_is_detected() -> None:
    sealed = RING.encrypt("secret", PLACE)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(TokenUnreadable):
            RING.decrypt(bytes(changed), PLACE)
    for length in range(len(sealed)):
        with pytest.raises(TokenUnreadable):
            RING.decrypt(sealed[:length], PLACE)


def test_a_new_key_encrypts_and_the_old_one_still_decrypts() -> None:
    old = RING.encrypt("secret", PLACE)
    both = Keyring({"k2": secrets.token_bytes(32), "k1": KEY})
    assert both.decrypt(old, PLACE) == "secret"
    new = both.encrypt("secret", PLACE)
    assert both.decrypt(new, PLACE) == "secret"
    with pytest.raises(
        TokenUnreadable, match="cannot decrypt access_token of users row 7: key 'k2' is not in the keyring"
    ):
        RING.decrypt(new, PLACE)


def test_another_key_with_the_same_id_decrypts_nothing() -> None:
    with pytest.raises(TokenUnreadable):
        Keyring({"k1": secrets.token_bytes(32)}).decrypt(RING.encrypt("secret", PLACE), PLACE)


def test_no_key_and_no_token_is_shown() -> None:
    text = secrets.token_urlsafe(32)
    ring = Keyring.parse(f"k1:{text}", "V")
    shown = [repr(ring), repr(Tokens("canary", "canary")), str(Tokens("canary", None))]
    try:
        ring.decrypt(ring.encrypt("canary", PLACE)[:-1], PLACE)
    except TokenUnreadable:
        shown.append(traceback.format_exc())
    for each in shown:
        assert text not in each
        assert "canary" not in each.replace('"canary"', "")


def test_invalid_keys_are_named_but_not_shown() -> None:
    cases: list[tuple[str, str]] = [
        ("", "key 1 has no valid id"),
        ("AAAA", "key 1 has no valid id"),
        ("K1:AAAA", "key 1 has no valid id"),
        ("k1:AAAA", "key k1 is not 32 bytes"),
        ("k1:%%%", "key k1 is not 32 bytes"),
        (f"k1:{'A' * 43},k1:{'B' * 43}", "key k1 is listed twice"),
        (f"k1:{'A' * 43},", "key 2 has no valid id"),
    ]
    for text, said in cases:
        with in_case(text, said):
            with pytest.raises(InvalidSetting, match=said) as caught:
                TokenKeys.of(text).keyring()
            assert str(caught.value).startswith("GROUNDWORK_TOKEN_KEYS: ")
            for part in text.split(":")[1:]:
                assert part.split(",")[0] not in str(caught.value)


def test_keys_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"k1:{secrets.token_urlsafe(32)}\n")
    keys = TokenKeys.from_environment({"GROUNDWORK_TOKEN_KEYS_FILE": str(file)})
    assert keys.keyring() is keys.keyring()
    assert keys.keyring().current == "k1"
    file.write_text(f"k2:{secrets.token_urlsafe(32)}\n")
    assert keys.keyring().current == "k2"


def test_a_keyring_that_another_thread_replaces_is_never_the_old_one(tmp_path: Path) -> None:
    class Interrupted(TokenKeys):
        """Lets another thread get the keyring after the given number of reads of an attribute."""

        reads_left = -1

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name.startswith("_"):
                self.reads_left -= 1
                if self.reads_left == 0:
                    self.keyring()
            return value

    file = tmp_path / "keys"
    for reads in range(1, 5):
        file.write_text(f"k1:{secrets.token_urlsafe(32)}")
        keys = Interrupted(UrlSource("GROUNDWORK_TOKEN_KEYS", InvalidSetting, file=file))
        keys.keyring()
        file.write_text(f"k2:{secrets.token_urlsafe(32)}")
        keys.reads_left = reads
        assert keys.keyring().current == "k2"


def test_without_keys_the_variable_is_named() -> None:
    with pytest.raises(InvalidSetting, match="set GROUNDWORK_TOKEN_KEYS or GROUNDWORK_TOKEN_KEYS_FILE"):
        TokenKeys.from_environment({}).keyring()

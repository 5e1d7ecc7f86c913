"""Names in Redis: hash tags, schema numbers, and the prefixes that the ACL allows."""

from __future__ import annotations

import hashlib
from enum import Enum

import msgspec
import pytest

from cache.keys import LEASE_PREFIX, VALUE_PREFIX, EntityKeys, FeedKeys, StoredKey
from db.models import USER_SCHEMA, User
from infra.spec import redis_acl
from tests.cases import in_case

# The fields of each cached type, by its schema number. A change of a type needs a higher number and a new line here,
# so that bytes in the old form are never decoded as the new one.
FINGERPRINTS: dict[tuple[type[msgspec.Struct], int], str] = {(User, 1): "8ab2bea2"}


def test_a_key_contains_namespace_schema_entity_and_id() -> None:
    keys = EntityKeys("dev", "user", 3)
    assert keys.value(7) == "gw:dev:v3:user:{7}"
    assert keys.lease(7) == "gwl:dev:v3:user:{7}"
    assert keys.both(7) == (keys.value(7), keys.lease(7))
    assert keys.values([7, -8]) == [keys.value(7), keys.value(-8)]


class Team(int, Enum):
    ROOT = 7


def test_a_member_of_an_enum_has_the_key_of_its_number() -> None:
    keys, feeds = EntityKeys("dev", "user", 3), FeedKeys("dev", "user_feed", 1)
    assert keys.both(Team.ROOT) == keys.both(7)
    assert keys.values([Team.ROOT]) == keys.values([7])
    assert feeds.generation(Team.ROOT) == feeds.generation(7)
    assert feeds.page(Team.ROOT, "a") == feeds.page(7, "a")


def test_a_value_and_its_lease_share_a_slot() -> None:
    for key in EntityKeys("dev", "user", 3).both(7):
        assert key[key.index("{") + 1 : key.index("}")] == "7"


def test_the_acl_allows_these_prefixes() -> None:
    assert (f"{VALUE_PREFIX}:", f"{LEASE_PREFIX}:") == (redis_acl.KEY_PREFIX, redis_acl.LEASE_PREFIX)


@pytest.mark.parametrize(("schema", "expected"), [(1, [1, 2]), (2, [1, 2, 3])])
def test_neighbours_are_releases_that_run_at_the_same_time(schema: int, expected: list[int]) -> None:
    assert [keys.schema for keys in EntityKeys("dev", "user", schema).neighbours()] == expected


@pytest.mark.parametrize(("kind", "schema"), [(User, USER_SCHEMA)])
def test_a_changed_type_has_a_new_schema_number(kind: type[msgspec.Struct], schema: int) -> None:
    fields = [(field.name, str(field.type)) for field in msgspec.structs.fields(kind)]
    fingerprint = hashlib.sha256(repr(fields).encode()).hexdigest()[:8]
    assert FINGERPRINTS.get((kind, schema)) == fingerprint, "raise the schema number and add its fingerprint"


def test_a_key_with_a_number_outside_bigint_is_not_that_of_a_record() -> None:
    assert StoredKey.parse("gw:main:v1:user:{-9223372036854775808}") is not None
    for number in ("²", "٣", "--5", "", "9" * 20, "9" * 5000):
        for key in (f"gw:main:v1:user:{{{number}}}", f"gw:main:v{number}:user:{{1}}"):
            with in_case(key):
                assert StoredKey.parse(key) is None

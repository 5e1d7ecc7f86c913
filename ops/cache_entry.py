"""What stands in the cache for one record or one owner's feed, taken apart: header, life, value, and what is odd."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from cache.entry import packed_in, read_header
from cache.epoch import Told
from cache.errors import UndecodableEntry
from cache.flushing import scan
from cache.keys import VALUE_PREFIX, EntityKeys, FeedKeys, StoredKey
from cache.survey import is_current, told_by
from db.cached_kinds import KINDS, CachedKind
from ops.cache_server import CacheServer

_PAGES = 100


def entry_of(server: CacheServer, entity: str, record_id: int) -> dict[str, Any]:
    """All there is of one of KINDS, by schema: `state` is that of the schema of this release.

    absent: nothing is cached · value · negative: known not to exist · pastEpoch: nobody reads it ·
    undecodable: readers drop it · otherSchema: there is one of another release alone. For a feed its pages.
    """
    kind = KINDS[entity]
    told = told_by(server.redis, server.namespace)
    if kind.is_feed:
        return _feed(server, kind, record_id, told)
    found = _described(server, _keys_of(server, entity, record_id), kind, told)
    own = next((each for each in found if each["schema"] == kind.schema), None)
    lease = EntityKeys(server.namespace, entity, kind.schema).lease(record_id)
    return {
        "entity": entity,
        "id": record_id,
        "state": own["state"] if own else "otherSchema" if found else "absent",
        "schema": kind.schema,
        "entries": found,
        "leaseTtlSeconds": _seconds(server.redis.pttl(lease)),
    }


def _feed(server: CacheServer, kind: CachedKind, owner_id: int, told: Told | None) -> dict[str, Any]:
    generation = FeedKeys(server.namespace, kind.entity, kind.schema).generation(owner_id)
    stamp = server.redis.get(generation)
    pages = _described(server, _keys_of(server, kind.entity, owner_id), kind, told)
    for page in pages:
        if page["state"] == "value" and (stamp is None or page["stamp"] != stamp.decode(errors="replace")):
            page["state"] = "pastGeneration"
    return {
        "entity": kind.entity,
        "id": owner_id,
        "state": "value" if any(page["state"] == "value" for page in pages) else "absent",
        "schema": kind.schema,
        "generation": None if stamp is None else stamp.decode(errors="replace"),
        "generationTtlSeconds": _seconds(server.redis.pttl(generation)),
        "entries": pages,
    }


def _keys_of(server: CacheServer, entity: str, record_id: int) -> list[str]:
    """The record's keys in every schema that stands, or a feed's pages: by SCAN, for schemas come and go."""
    pattern = f"{VALUE_PREFIX}:{server.namespace}:v*:{entity}:{{{record_id}}}*"
    keys = (key for found in scan(server.redis, [pattern]) for key in found if StoredKey.parse(key))
    return sorted(set(islice(keys, _PAGES)))


def _described(
    server: CacheServer, keys: list[str], kind: CachedKind, told: Told | None
) -> list[dict[str, Any]]:
    described = []
    for key in keys:
        parsed = StoredKey.parse(key)
        raw = server.redis.get(key)
        if raw is None or parsed is None:
            continue
        entry = {
            "key": key,
            "schema": parsed.schema,
            "ttlSeconds": _seconds(server.redis.pttl(key)),
            "bytes": len(raw),
        }
        described.append(entry | _opened(raw, kind, parsed, told))
    return described


def _opened(raw: bytes, kind: CachedKind, parsed: StoredKey, told: Told | None) -> dict[str, Any]:
    try:
        header, packed = read_header(raw), packed_in(raw)
    except UndecodableEntry as error:
        return {"state": "undecodable", "reason": str(error)}
    fields: dict[str, Any] = {
        "stamp": header.stamp.decode(errors="replace"),
        "rowVersion": header.version,
        "expiresAtMs": header.expires_at,
        "costMs": header.cost,
    }
    if parsed.schema != kind.schema:
        return fields | {"state": "olderSchema" if parsed.schema < kind.schema else "newerSchema"}
    state = "value" if packed is not None else "negative"
    if packed is not None:
        try:
            fields["value"] = msgspec.to_builtins(kind.unpack(packed))
        except UndecodableEntry as error:
            return fields | {"state": "undecodable", "reason": str(error)}
    return fields | {"state": state if is_current(raw, parsed.entity, told) else "pastEpoch"}


def _seconds(ttl_ms: int) -> float | None:
    return ttl_ms / 1000 if ttl_ms >= 0 else None


def as_lines(found: dict[str, Any]) -> list[str]:
    """The same as people read it."""
    lines = [f"{found['entity']} {found['id']}: {_STATES.get(found['state'], found['state'])}"]
    if found.get("generation"):
        lines.append(f"  generation {found['generation']}, {found['generationTtlSeconds']} s left")
    if found.get("leaseTtlSeconds"):
        lines.append(f"  being filled: its lease ends in {found['leaseTtlSeconds']} s")
    for entry in found["entries"]:
        lines.append(f"  {entry['key']}: {_STATES.get(entry['state'], entry['state'])}")
        lines += [
            f"    {name:<12}{entry[name]}"
            for name in ("reason", "ttlSeconds", "bytes", "stamp", "rowVersion", "costMs")
            if entry.get(name) is not None
        ]
        if "value" in entry:
            text = msgspec.json.format(msgspec.json.encode(entry["value"]), indent=2).decode()
            lines += [f"    {line}" for line in text.splitlines()]
    return lines


_STATES = {
    "value": "cached",
    "absent": "not cached",
    "negative": "cached as absent: readers are told that there is none",
    "pastEpoch": "of a past epoch, which nobody reads",
    "pastGeneration": "of a past generation, which nobody reads",
    "undecodable": "undecodable; the next reader drops it",
    "otherSchema": "not cached by this release, but by another",
    "olderSchema": "of an older release's schema",
    "newerSchema": "of a newer release's schema",
}

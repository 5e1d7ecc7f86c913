"""The cached entry of one record or one owner's feed, decoded: header, TTL, value and anomalies."""

from __future__ import annotations

from typing import Any

import msgspec

from cache.entry import packed_in, read_header
from cache.epoch import ServerIdentity
from cache.errors import UndecodableEntry
from cache.flushing import scan
from cache.inspection import is_current, server_identity
from cache.keys import VALUE_PREFIX, EntityKeys, FeedKeys, StoredKey
from db.cached_kinds import KINDS, CachedKind
from ops.cache.server import CacheServer

_SHOWN_PAGES = 100


def entry_of(server: CacheServer, entity: str, record_id: int) -> dict[str, Any]:
    """Describe the cached entries of a record of a kind in KINDS, in every schema. For a feed, describe its pages.

    `state` is that of the entry in this release's schema. For a feed it is `value` if any page is cached, and otherwise
    the state of one of its pages:

    - absent: nothing is cached
    - value: a value is cached
    - negative: cached as not existing
    - pastEpoch, pastGeneration: invalidated, no reader uses it
    - undecodable: readers delete it
    - otherSchema: only other releases have cached it
    """
    kind = KINDS[entity]
    identity = server_identity(server.redis, server.namespace)
    if kind.is_feed:
        return _feed(server, kind, record_id, identity)
    found = _described(server, _keys_of(server, entity, record_id), kind, identity)
    lease = EntityKeys(server.namespace, entity, kind.schema).lease(record_id)
    return {
        "entity": entity,
        "id": record_id,
        "state": _state(found, kind),
        "schema": kind.schema,
        "entries": found,
        "leaseTtlSeconds": _seconds(server.redis.pttl(lease)),
    }


def _feed(
    server: CacheServer, kind: CachedKind, owner_id: int, identity: ServerIdentity | None
) -> dict[str, Any]:
    generation = FeedKeys(server.namespace, kind.entity, kind.schema).generation(owner_id)
    stamp = server.redis.get(generation)
    pages = _described(server, _keys_of(server, kind.entity, owner_id), kind, identity)
    for page in pages:
        if page["state"] == "value" and (stamp is None or page["stamp"] != stamp.decode(errors="replace")):
            page["state"] = "pastGeneration"
    return {
        "entity": kind.entity,
        "id": owner_id,
        "state": _state(pages, kind),
        "schema": kind.schema,
        "generation": None if stamp is None else stamp.decode(errors="replace"),
        "generationTtlSeconds": _seconds(server.redis.pttl(generation)),
        "entries": pages[:_SHOWN_PAGES],
        "pages": len(pages),
    }


def _state(described: list[dict[str, Any]], kind: CachedKind) -> str:
    """Return the state of what this release's readers find."""
    own = [each["state"] for each in described if each["schema"] == kind.schema]
    if not own:
        return "otherSchema" if described else "absent"
    return "value" if "value" in own else str(own[0])


def _keys_of(server: CacheServer, entity: str, record_id: int) -> list[str]:
    """Return the record's keys in every schema, or a feed's pages. Uses SCAN, because the schemas are not known."""
    pattern = f"{VALUE_PREFIX}:{server.namespace}:v*:{entity}:{{{record_id}}}*"
    keys = (key for found in scan(server.redis, [pattern]) for key in found if StoredKey.parse(key))
    return sorted(set(keys))


def _described(
    server: CacheServer, keys: list[str], kind: CachedKind, identity: ServerIdentity | None
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
        described.append(entry | _opened(raw, kind, parsed, identity))
    return described


def _opened(
    raw: bytes, kind: CachedKind, parsed: StoredKey, identity: ServerIdentity | None
) -> dict[str, Any]:
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
    return fields | {"state": state if is_current(raw, parsed.entity, identity) else "pastEpoch"}


def _seconds(ttl_ms: int) -> float | None:
    return ttl_ms / 1000 if ttl_ms >= 0 else None


def as_lines(found: dict[str, Any]) -> list[str]:
    """Render an entry as text."""
    lines = [f"{found['entity']} {found['id']}: {_STATES.get(found['state'], found['state'])}"]
    if found.get("generation"):
        lines.append(f"  generation {found['generation']}, {found['generationTtlSeconds']} s left")
    if found.get("leaseTtlSeconds"):
        lines.append(f"  being filled: its lease expires in {found['leaseTtlSeconds']} s")
    for entry in found["entries"]:
        lines.append(f"  {entry['key']}: {_STATES.get(entry['state'], entry['state'])}")
        lines += [
            f"    {name:<12}{entry[name]}"
            for name in ("reason", "ttlSeconds", "bytes", "stamp", "rowVersion", "costMs")
            if entry.get(name) is not None
        ]
        if "value" in entry:
            text = msgspec.json.format(msgspec.json.encode(entry["value"]), indent=2).decode()
            lines += [f"    {line}" for line in text.split("\n")]
    if (more := found.get("pages", 0) - len(found["entries"])) > 0:
        lines.append(f"  {more} more pages are cached")
    return lines


_STATES = {
    "value": "cached",
    "absent": "not cached",
    "negative": "cached as absent: readers get no record",
    "pastEpoch": "from an earlier epoch; readers ignore it",
    "pastGeneration": "from a past generation; readers ignore it",
    "undecodable": "undecodable; the next reader deletes it",
    "otherSchema": "not cached by this release, only by another one",
    "olderSchema": "with the schema of an older release",
    "newerSchema": "with the schema of a newer release",
}

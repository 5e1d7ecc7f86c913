"""The Lua scripts that make fills and invalidations in Redis atomic.

Scripts for records take the keys of a value and its lease, which share a slot. Scripts for feeds document their keys.
cache.entry describes the format of entries. An entry of another epoch is treated as missing.

A lease key contains the nonces of all callers that may fill. Invalidation deletes it, and a nonce is never used again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LuaScript:
    """A Lua script and its SHA-1, by which it is called."""

    name: str
    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


# Whether an entry is of this epoch, and its version, which is nil for an absence.
_ENTRY = """
local function current(value, epoch) return value and string.sub(value, 1, #epoch + 1) == epoch .. ':' end
local function version(value) return tonumber(string.match(value, '^[^:]*:(%d+):')) end
"""

# Return the value, or try to take the lease.
# Returns {value} | {false, 1}: the caller has the lease | {false, 0}: another caller has it.
# ARGV: nonce, the lease's lifetime in ms, the ms after which one more caller may take it, the epoch.
TAKE_LEASE = LuaScript(
    "take_lease",
    _ENTRY
    + """
local value = redis.call('GET', KEYS[1])
if current(value, ARGV[4]) then return {value} end
local holders = redis.call('GET', KEYS[2])
if holders then
  if tonumber(ARGV[2]) - redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then return {false, 0} end
  holders = holders .. ' ' .. ARGV[1]
else
  holders = ARGV[1]
end
redis.call('SET', KEYS[2], holders, 'PX', ARGV[2])
return {false, 1}
""",
)

# Take the lease to refresh an entry.
# Returns 1: the caller has the lease | 0: another caller has it, or the entry has changed.
# ARGV: nonce, the lease's lifetime in ms, the header of the entry to refresh.
TAKE_REFRESH = LuaScript(
    "take_refresh",
    """
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, #ARGV[3]) ~= ARGV[3] then return 0 end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
""",
)

# Store what was read under a lease.
# Returns 1: stored | 0: refused, because the lease is gone or the cached entry is newer: the value may be stale.
# ARGV: nonce, the value, its lifetime in ms, the epoch.
FILL = LuaScript(
    "fill",
    _ENTRY
    + """
local holders = redis.call('GET', KEYS[2])
if not holders or not string.find(holders, ARGV[1], 1, true) then return 0 end
redis.call('UNLINK', KEYS[2])
local value = redis.call('GET', KEYS[1])
if current(value, ARGV[4]) and (version(value) or 0) > (version(ARGV[2]) or math.huge) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""",
)

# Replace an entry that is not newer after a write.
# Returns 1: the new value is stored | 0: nothing is cached | 2: a newer value is cached.
# KEYS: value and lease, then those of the other schemas in use, which are deleted.
# ARGV: the row version written, the value, its lifetime in ms, the epoch.
# A missing value is not stored: after an eviction a late writer cannot be distinguished from the last one. A cached
# value is at least as new as the last finished invalidation, so a higher version may replace it. The old value is
# deleted first, so that a SET that fails for lack of memory leaves no stale value. An entry of the same version is
# replaced too: it may be of a write that a failover has lost, whose version was then used again.
REPLACE = LuaScript(
    "replace",
    _ENTRY
    + """
redis.call('UNLINK', unpack(KEYS, 2))
local value = redis.call('GET', KEYS[1])
if not value then return 0 end
local there = current(value, ARGV[4]) and version(value)
if there and there > tonumber(ARGV[1]) then return 2 end
redis.call('UNLINK', KEYS[1])
if not there then return 0 end
local stored = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if type(stored) == 'table' and stored.err then return 0 end
return 1
""",
)

# Invalidate a value.
# Returns 1: deleted | 0: nothing was cached | 2: the cached value is the current one and stays.
# ARGV: the row's current version (-1: delete any value), the epoch.
# The same version is the same record, because a failover that may lose writes flushes the cache. A higher version is
# deleted too: it may be of a deleted row.
DROP = LuaScript(
    "drop",
    _ENTRY
    + """
redis.call('UNLINK', KEYS[2])
local value = redis.call('GET', KEYS[1])
if not value then return 0 end
if current(value, ARGV[2]) and version(value) == tonumber(ARGV[1]) then return 2 end
redis.call('UNLINK', KEYS[1])
return 1
""",
)

# Return a feed's page, or try to take its lease. KEYS: the owner's generation, the page, its lease.
# Returns {generation, page} | {generation, false, 1}: the caller has the lease | {generation, false, 0}: it has not.
# ARGV: nonce, the lease's lifetime in ms, the ms after which another caller may take it, the generation's lifetime in
# ms, the epoch.
# A page is valid with the generation that its bytes begin with. A generation that is missing or of another epoch is
# created from the nonce. A counter would repeat its values after an eviction and make old pages valid again.
TAKE_PAGE = LuaScript(
    "take_page",
    """
local generation = redis.call('GET', KEYS[1])
if generation and string.sub(generation, 1, #ARGV[5] + 1) == ARGV[5] .. '.' then
  local page = redis.call('GET', KEYS[2])
  if page and string.sub(page, 1, #generation + 1) == generation .. ':' then return {generation, page} end
else
  generation = ARGV[5] .. '.' .. ARGV[1]
  redis.call('SET', KEYS[1], generation, 'PX', ARGV[4])
end
local holder = redis.call('GET', KEYS[3])
if holder and tonumber(ARGV[2]) - redis.call('PTTL', KEYS[3]) < tonumber(ARGV[3]) then return {generation, false, 0} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return {generation, false, 1}
""",
)

# Store a page that was read under a lease. KEYS as for TAKE_PAGE.
# Returns 1: stored | 0: refused, because the feed was invalidated since the page was read: it may be stale.
# ARGV: the generation from TAKE_PAGE, the page, its lifetime in ms, the generation's lifetime in ms.
# The generation must outlive its pages, because without it they are all misses.
FILL_PAGE = LuaScript(
    "fill_page",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 1
""",
)

# Flush one entity by replacing its part of the namespace's nonce (cache.epoch); the other parts stay.
# KEYS: the namespace's nonce. ARGV: the entity, its new nonce, and a nonce for the namespace if there is none.
DRAW_ENTITY_NONCE = LuaScript(
    "draw_entity_nonce",
    """
local shared, own = string.match(redis.call('GET', KEYS[1]) or ARGV[3], '^([^ ]+)(.*)$')
local kept = shared
for name, nonce in string.gmatch(own, ' ([^ =]+)=([^ ]+)') do
  if name ~= ARGV[1] then kept = kept .. ' ' .. name .. '=' .. nonce end
end
redis.call('SET', KEYS[1], kept .. ' ' .. ARGV[1] .. '=' .. ARGV[2])
return 1
""",
)

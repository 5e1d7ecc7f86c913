"""The Lua the cache runs in Redis: what makes fills and invalidations atomic.

Those of records take a value's key and its lease's key, which share a slot; those of feeds say their own. What
entries look like is cache.entry's; one of another epoch is as good as none. A lease key holds the nonces of all
callers that may fill; invalidation deletes it, and a nonce never comes back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Script:
    """A Lua script and the SHA-1 it is called by."""

    name: str
    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


# Whether an entry is of this epoch, and its version, which an absence has not.
_ENTRY = """
local function current(value, epoch) return value and string.sub(value, 1, #epoch + 1) == epoch .. ':' end
local function version(value) return tonumber(string.match(value, '^[^:]*:(%d+):')) end
"""

# -> {value} | {false, 1}: the lease is yours | {false, 0}: another holds it.
# ARGV: nonce, the lease's life in ms, after how many ms it passes to one more holder, the epoch.
TAKE_LEASE = Script(
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

# Before an entry is refreshed. -> 1: the lease is yours | 0: another fills, or the entry is a different one by now.
# ARGV: nonce, the lease's life in ms, the header of the entry that was due.
TAKE_REFRESH = Script(
    "take_refresh",
    """
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, #ARGV[3]) ~= ARGV[3] then return 0 end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
""",
)

# -> 1: stored | 0: the lease is gone, or what is there is newer: what was read may be stale.
# ARGV: nonce, the value, its life in ms, the epoch.
FILL = Script(
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

# After a write. -> 1: the new value stands | 0: nothing is cached | 2: a newer one stands.
# KEYS: value and lease, then those of the other schemas in use, which are forgotten.
# ARGV: the row version written, the value, its life in ms, the epoch.
# An absent value stays absent: after an eviction nothing here tells a late writer from the last one. A
# present one was no older than the last finished invalidation, so a higher version may take its place. The
# old value goes first, so that a SET refused for want of memory leaves no stale one behind.
REPLACE = Script(
    "replace",
    _ENTRY
    + """
redis.call('UNLINK', unpack(KEYS, 2))
local value = redis.call('GET', KEYS[1])
if not value then return 0 end
local there = current(value, ARGV[4]) and version(value)
if there and there >= tonumber(ARGV[1]) then return 2 end
redis.call('UNLINK', KEYS[1])
if not there then return 0 end
local stored = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if type(stored) == 'table' and stored.err then return 0 end
return 1
""",
)

# Forget. -> 1: dropped | 0: nothing was there | 2: what is there is as new, and stands.
# ARGV: the row version that was written, -1 where any value has to go; the epoch.
DROP = Script(
    "drop",
    _ENTRY
    + """
redis.call('UNLINK', KEYS[2])
local value = redis.call('GET', KEYS[1])
if not value then return 0 end
local there = current(value, ARGV[2]) and version(value)
local written = tonumber(ARGV[1])
if there and written >= 0 and there >= written then return 2 end
redis.call('UNLINK', KEYS[1])
return 1
""",
)

# A feed's page. KEYS: the owner's generation, the page, its lease.
# -> {generation, page} | {generation, false, 1}: the lease is yours | {generation, false, 0}: another holds it.
# ARGV: nonce, the lease's life in ms, after how many ms it passes on, the generation's life in ms, the epoch.
# A page is good under the generation that its bytes begin with. One that is missing, or of another epoch, is drawn
# anew, from the nonce: a number that counts up would come back after an eviction, and old pages with it.
TAKE_PAGE = Script(
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

# -> 1: stored | 0: the feed has been forgotten since the page was read, and it may be stale.
# KEYS as above. ARGV: the generation of TAKE_PAGE, the page, its life in ms, the generation's life in ms.
# The generation has to outlive its pages: where it expired first, they would be read again and again.
FILL_PAGE = Script(
    "fill_page",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 1
""",
)

# A flush of one entity: its part of the namespace's nonce (cache.epoch) is drawn anew, the rest stays.
# KEYS: the namespace's nonce. ARGV: the entity, its new nonce, and the namespace's where there is none.
DRAW_ENTITY_NONCE = Script(
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

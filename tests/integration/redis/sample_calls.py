"""A call of each command and subcommand of the server, which succeeds for a user that may run it.

The keys are those of SEEDS, which all match the pattern of the application's users. A command that is missing here
fails the sweep, so that somebody decides on each new command.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

SEEDS = r"""
    flushall
    script flush
    function flush
    set gw:s 5
    set gw:bytes ab
    rpush gw:l a b c
    hset gw:h f 1 g 2
    sadd gw:set a b
    sadd gw:set2 b c
    zadd gw:z 1 a 2 b 3 c
    zadd gw:z2 1 a 2 d
    geoadd gw:geo 13.36 38.11 palermo 15.08 37.50 catania
    pfadd gw:hll a b
    xadd gw:x 1-1 f v
    xgroup create gw:x g 0
    script load 'return 1'
    function load '#!lua name=f\nredis.register_function{function_name="f", flags={"no-writes"},callback=function()end}'
"""
# The SHA-1 of the script in SEEDS.
_SHA = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"

# `run` commands are executed. Those of `fails` are executed too, and the server refuses them for another reason than
# permissions. Those of `asked` would block, end the connection, or stop the server: ACL DRYRUN gets the whole call.
_RUN = rf"""
    acl cat read
    acl deluser nobody
    acl dryrun app get gw:s
    acl genpass
    acl getuser app
    acl help
    acl list
    acl load
    acl log
    acl setuser sampled off
    acl users
    acl whoami
    append gw:s 1
    bgrewriteaof
    bgsave schedule
    bitcount gw:bytes
    bitfield gw:bytes get u8 0
    bitfield_ro gw:bytes get u8 0
    bitop and gw:out gw:bytes gw:s
    bitpos gw:bytes 1
    blmove gw:l gw:out left right 1
    blmpop 1 1 gw:l left
    blpop gw:l 1
    brpop gw:l 1
    brpoplpush gw:l gw:out 1
    bzmpop 1 1 gw:z min
    bzpopmax gw:z 1
    bzpopmin gw:z 1
    client getname
    client getredir
    client help
    client id
    client info
    client kill id 999999999
    client list
    client no-evict off
    client reply on
    client setname sampled
    client tracking on bcast prefix gw:
    client trackinginfo
    client unblock 999999999
    client unpause
    command
    command count
    command docs get
    command getkeys get gw:s
    command getkeysandflags get gw:s
    command help
    command info get
    command list
    config get maxmemory
    config help
    config resetstat
    config set maxclients 1000
    copy gw:s gw:out
    dbsize
    decr gw:s
    decrby gw:s 1
    del gw:s
    dump gw:s
    echo x
    eval 'return 1' 0
    eval_ro 'return 1' 0
    evalsha {_SHA} 0
    evalsha_ro {_SHA} 0
    exists gw:s
    expire gw:s 100
    expireat gw:s 9999999999
    expiretime gw:s
    fcall f 0
    fcall_ro f 0
    flushall
    flushdb
    function delete f
    function dump
    function flush
    function help
    function list
    function load '#!lua name=more\nredis.register_function("more", function() return 1 end)'
    function stats
    geoadd gw:geo 1 1 x
    geodist gw:geo palermo catania
    geohash gw:geo palermo
    geopos gw:geo palermo
    georadius gw:geo 15 37 200 km
    georadius_ro gw:geo 15 37 200 km
    georadiusbymember gw:geo palermo 200 km
    georadiusbymember_ro gw:geo palermo 200 km
    geosearch gw:geo frommember palermo byradius 200 km
    geosearchstore gw:out gw:geo frommember palermo byradius 200 km
    get gw:s
    getbit gw:bytes 0
    getdel gw:s
    getex gw:s
    getrange gw:s 0 1
    getset gw:s 1
    hdel gw:h f
    hello
    hexists gw:h f
    hget gw:h f
    hgetall gw:h
    hincrby gw:h f 1
    hincrbyfloat gw:h f 1
    hkeys gw:h
    hlen gw:h
    hmget gw:h f
    hmset gw:h f 1
    hrandfield gw:h
    hscan gw:h 0
    hset gw:h f 1
    hsetnx gw:h new 1
    hstrlen gw:h f
    hvals gw:h
    incr gw:s
    incrby gw:s 1
    incrbyfloat gw:s 1
    info
    keys *
    lastsave
    latency doctor
    latency help
    latency histogram
    latency history command
    latency latest
    latency reset
    lcs gw:s gw:bytes
    lindex gw:l 0
    linsert gw:l before a x
    llen gw:l
    lmove gw:l gw:out left right
    lmpop 1 gw:l left
    lolwut
    lpop gw:l
    lpos gw:l a
    lpush gw:l x
    lpushx gw:l x
    lrange gw:l 0 -1
    lrem gw:l 0 a
    lset gw:l 0 x
    ltrim gw:l 0 1
    memory doctor
    memory help
    memory malloc-stats
    memory purge
    memory stats
    memory usage gw:s
    mget gw:s
    module help
    module list
    move gw:s 1
    mset gw:s 1
    msetnx gw:new 1
    multi
    object encoding gw:s
    object help
    object freq gw:s
    object refcount gw:s
    persist gw:s
    pexpire gw:s 100000
    pexpireat gw:s 9999999999999
    pexpiretime gw:s
    pfadd gw:hll x
    pfcount gw:hll
    pfdebug encoding gw:hll
    pfmerge gw:out gw:hll
    ping
    psetex gw:s 100000 1
    pttl gw:s
    publish gw:channel x
    pubsub channels
    pubsub help
    pubsub numpat
    pubsub numsub gw:channel
    pubsub shardchannels
    pubsub shardnumsub gw:channel
    punsubscribe
    quit
    randomkey
    rename gw:s gw:out
    renamenx gw:s gw:out
    replicaof no one
    reset
    role
    rpop gw:l
    rpoplpush gw:l gw:out
    rpush gw:l x
    rpushx gw:l x
    sadd gw:set x
    scan 0
    scard gw:set
    script exists {_SHA}
    script flush
    script help
    script load 'return 2'
    sdiff gw:set gw:set2
    sdiffstore gw:out gw:set gw:set2
    select 0
    set gw:s 1
    setbit gw:bytes 0 1
    setex gw:s 100 1
    setnx gw:new 1
    setrange gw:s 0 1
    sinter gw:set gw:set2
    sintercard 2 gw:set gw:set2
    sinterstore gw:out gw:set gw:set2
    sismember gw:set a
    slaveof no one
    slowlog get
    slowlog help
    slowlog len
    slowlog reset
    smembers gw:set
    smismember gw:set a
    smove gw:set gw:set2 a
    sort gw:l alpha
    sort_ro gw:l alpha
    spop gw:set
    spublish gw:channel x
    srandmember gw:set
    srem gw:set a
    sscan gw:set 0
    strlen gw:s
    substr gw:s 0 1
    sunion gw:set gw:set2
    sunionstore gw:out gw:set gw:set2
    sunsubscribe
    swapdb 0 1
    time
    touch gw:s
    ttl gw:s
    type gw:s
    unlink gw:s
    unsubscribe
    unwatch
    wait 0 1
    watch gw:s
    xack gw:x g 1-1
    xadd gw:x * f v
    xautoclaim gw:x g c 0 0
    xclaim gw:x g c 0 1-1
    xdel gw:x 1-1
    xgroup create gw:x g2 0
    xgroup createconsumer gw:x g c
    xgroup delconsumer gw:x g c
    xgroup destroy gw:x g
    xgroup help
    xgroup setid gw:x g 0
    xinfo consumers gw:x g
    xinfo groups gw:x
    xinfo help
    xinfo stream gw:x
    xlen gw:x
    xpending gw:x g
    xrange gw:x - +
    xread streams gw:x 0
    xreadgroup group g c streams gw:x >
    xrevrange gw:x + -
    xsetid gw:x 5-5
    xtrim gw:x maxlen 1
    zadd gw:z 1 x
    zcard gw:z
    zcount gw:z 0 9
    zdiff 2 gw:z gw:z2
    zdiffstore gw:out 2 gw:z gw:z2
    zincrby gw:z 1 a
    zinter 2 gw:z gw:z2
    zintercard 2 gw:z gw:z2
    zinterstore gw:out 2 gw:z gw:z2
    zlexcount gw:z - +
    zmpop 1 gw:z min
    zmscore gw:z a
    zpopmax gw:z
    zpopmin gw:z
    zrandmember gw:z
    zrange gw:z 0 -1
    zrangebylex gw:z - +
    zrangebyscore gw:z 0 9
    zrangestore gw:out gw:z 0 -1
    zrank gw:z a
    zrem gw:z a
    zremrangebylex gw:z - +
    zremrangebyrank gw:z 0 0
    zremrangebyscore gw:z 0 1
    zrevrange gw:z 0 -1
    zrevrangebylex gw:z + -
    zrevrangebyscore gw:z 9 0
    zrevrank gw:z a
    zscan gw:z 0
    zscore gw:z a
    zunion 2 gw:z gw:z2
    zunionstore gw:out 2 gw:z gw:z2
"""
_FAILS = r"""
    acl save
    asking
    auth app wrong
    client caching yes
    cluster addslots 1
    cluster addslotsrange 1 2
    cluster bumpepoch
    cluster count-failure-reports x
    cluster countkeysinslot 1
    cluster delslots 1
    cluster delslotsrange 1 2
    cluster failover
    cluster flushslots
    cluster forget x
    cluster getkeysinslot 1 1
    cluster help
    cluster info
    cluster keyslot gw:s
    cluster links
    cluster meet 127.0.0.1 1
    cluster myid
    cluster nodes
    cluster replicas x
    cluster replicate x
    cluster reset
    cluster saveconfig
    cluster set-config-epoch 1
    cluster setslot 1 stable
    cluster shards
    cluster slaves x
    cluster slots
    config rewrite
    debug sleep 0
    discard
    exec
    failover abort
    function kill
    latency graph command
    migrate 127.0.0.1 1 gw:s 0 10
    module load /tmp/x.so
    module loadex /tmp/x.so
    module unload x
    object idletime gw:s
    readonly
    readwrite
    restore gw:new 0 x
    restore-asking gw:new 0 x
    function restore x
    script kill
"""
_ASKED = """
    client pause 1
    monitor
    pfselftest
    psubscribe gw:*
    psync ? -1
    replconf capa eof
    save
    script debug no
    shutdown nosave
    ssubscribe gw:channel
    subscribe gw:channel
    sync
"""


@dataclass(frozen=True)
class SampleCall:
    """A call. `is_asked`: only ACL DRYRUN gets it. `fails`: it is executed, and the server refuses it anyway."""

    words: tuple[str, ...]
    is_asked: bool = False
    fails: bool = False

    def spelled(self, command: str, spelling: str) -> tuple[str, ...]:
        """Return the words with the command's name in `upper` or `lower` case."""
        count = command.count("|") + 1
        return (*(getattr(word, spelling)() for word in self.words[:count]), *self.words[count:])


def parse(text: str) -> list[tuple[str, ...]]:
    return [
        tuple(word.replace("\\n", "\n") for word in shlex.split(line)) for line in text.strip().splitlines()
    ]


SAMPLE_CALLS = (
    *(SampleCall(words) for words in parse(_RUN)),
    *(SampleCall(words, fails=True) for words in parse(_FAILS)),
    *(SampleCall(words, is_asked=True) for words in parse(_ASKED)),
)

"""A server that is started with another persistence mode than before, and one whose start is killed meanwhile."""

from __future__ import annotations

import re

import pytest

from infra.docker.engine import File, copy_files, docker
from infra.spec import redis
from tests import containers
from tests.containers import redis_image
from tests.integration.redis.conftest import client_of
from tests.promises import promise

pytestmark = pytest.mark.usefixtures("docker_engine")

MAXMEMORY = 64 * 1024**2
# Sets a value in mode $2. For each command of the entrypoint, begins a start in mode $3, kills it before that command,
# and prints the value that the next start has. A program $1 other than the entrypoint is started once, without a kill.
_TRY = r"""
cli() { redis-cli -s /tmp/redis.sock "$@" 2> /dev/null; }
start() {
    "$program" /etc/groundwork/redis.conf > /tmp/log &
    until [[ $(cli PING) == PONG ]]; do sleep 0.05; done
}
stop() { cli SHUTDOWN; wait; }
program=$1
cd /var/lib/redis
echo "$2" > /etc/groundwork/redis.conf
start; cli SET gw:key value > /dev/null; stop
cp -a . /tmp/data
echo "$3" > /etc/groundwork/redis.conf
for (( n = 1; ; n++ )); do
    rm -rf ./*; cp -a /tmp/data/. .
    if [[ $program == groundwork-redis ]]; then
        # As in a container, the kill leaves no process.
        setsid --wait bash -c '
            before() {
                [[ $BASH_COMMAND != "exec redis-server"* ]] || exit 0
                (( --left )) || kill -KILL 0
            }
            left=$0; set -o functrace; trap before DEBUG; source groundwork-redis
        ' "$n" > /tmp/log && break
    fi
    start; echo "value: $(cli GET gw:key)"; stop
    [[ $program == groundwork-redis ]] || break
done
"""


@promise("Redis keeps the data across a restart as `redisPersistence` sets it")
def test_a_changed_mode_keeps_all_data_and_none_keeps_none() -> None:
    with containers.redis_server(maxmemory=MAXMEMORY, persistence="rdb") as server:
        names = [f"gw:{n}" for n in range(6)]
        for n, (mode, kept) in enumerate(
            [("aof", 1), ("rdb", 2), ("aof", 3), ("none", 0), ("rdb", 0), ("none", 0)]
        ):
            with client_of(server, "app") as app:
                app.set(names[n], "value")
            conf = redis.render_conf(
                maxmemory_bytes=MAXMEMORY, eviction_policy="allkeys-lfu", persistence=mode
            )
            copy_files(server.container, redis.CONFIG_DIR, {"redis.conf": File(conf, redis.UID, redis.GID)})
            server.restart()
            with client_of(server, "app") as app:
                assert app.exists(*names) == kept, f"change {n}: to {mode}"


def _conf(mode: str) -> str:
    directives = redis.PERSISTENCE[mode] | {
        "port": "0",
        "unixsocket": "/tmp/redis.sock",
        "dir": redis.DATA_DIR,
    }
    return "".join(f"{key} {value}\n" for key, value in directives.items())


def _run(script: str, *arguments: str) -> list[str]:
    """Run a script with empty folders in a container of the image, and return what it prints."""
    owner = f"uid={redis.UID},gid={redis.GID}"
    options = [f"--tmpfs={folder}:{owner}" for folder in (redis.CONFIG_DIR, redis.DATA_DIR)]
    run = ("run", "--rm", "--init", "--network=none", *options, "--entrypoint=bash", redis_image())
    return docker(*run, "-ceu", script, "bash", *arguments, timeout_seconds=500).splitlines()


CHANGES = [("rdb", "aof"), ("aof", "rdb")]


@promise("Redis keeps the data across a restart as `redisPersistence` sets it")
@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_start_that_is_killed_while_it_converts_the_data_loses_nothing(before: str, after: str) -> None:
    values = _run(_TRY, "groundwork-redis", _conf(before), _conf(after))
    assert len(values) >= 10
    assert set(values) == {"value: value"}


@promise("Redis keeps the data across a restart as `redisPersistence` sets it", control=True)
@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_redis_alone_starts_without_the_data_of_another_mode(before: str, after: str) -> None:
    assert _run(_TRY, "redis-server", _conf(before), _conf(after)) == ["value: "]


def test_an_aof_that_redis_cannot_read_is_kept_and_the_error_names_a_way_out() -> None:
    script = r"""
mkdir /var/lib/redis/appendonlydir
echo 'file missing.aof seq 1 type i' > /var/lib/redis/appendonlydir/appendonly.aof.manifest
echo "$1" > /etc/groundwork/redis.conf
if groundwork-redis /etc/groundwork/redis.conf 2>&1; then exit 1; fi
ls /var/lib/redis/appendonlydir
"""
    *_, error, left = _run(script, _conf("rdb"))
    # The temporary server may end before or after redis-cli has connected.
    assert re.match(r"cannot make a dump\.rdb of the AOF \((Could not connect|Error: |no answer)", error)
    assert error.endswith("set redisPersistence back to aof, or to none to start without the data")
    assert left == "appendonly.aof.manifest"

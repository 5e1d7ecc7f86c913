"""Compare the data access with redis-rs and sqlx, the drivers of Rust (`make bench PEERS=rust`).

cargo builds the program in tests/bench/rust into the cache folder. It reads the same user from the same servers over
TLS, with one caller. Its cached value is JSON, which serde_json decodes.
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import msgspec

from db import DataAccess
from db.named_query import queries
from infra.spec.checkout import Checkout
from tests.bench.data_access import settle
from tests.bench.result import Result
from tests.bench.servers import BenchServers, bench_servers, raw_redis
from tests.bench.turns import ROUNDS, Turns, seconds

CRATE = Path(__file__).parent / "rust"
NEAR_AT_LEAST, HIT_AT_MOST, READ_AT_MOST = 30, 1.4, 1.0
_CALLS, _NEAR_CALLS = 400, 20_000
# Few enough that a busy moment of the machine affects both.
_RUN = 20
_KEY = "rust"
Ask = Callable[[str, int], float]


def measure() -> list[Result]:
    """Return the part of the table about Rust."""
    program = _build()
    with bench_servers() as servers, _peers(program, servers) as ask:
        identity = servers.user.id
        with DataAccess(servers.database, servers.cache(1000)) as data:
            settle(lambda: data.users.get(identity))
            near = Turns([], [])
            for _ in range(ROUNDS):
                near.ours.append(seconds(lambda: data.users.get(identity), _NEAR_CALLS))
                near.theirs.append(ask("hit", _CALLS))
        with DataAccess(servers.database, servers.cache()) as data:
            hit = _turns(lambda: data.users.get(identity), lambda: ask("hit", _RUN))
            read = _turns(lambda: data.users.find_by_github_id(1), lambda: ask("read", _RUN))
    versions = _versions()
    redis_rs, sqlx = f"redis-rs {versions['redis']}", f"sqlx {versions['sqlx']}"
    return [
        Result(
            "near-cache hit, times faster than redis-rs GET + serde_json",
            near.speedups(),
            "x",
            at_least=NEAR_AT_LEAST,
            note=redis_rs,
        ),
        Result("Redis hit / redis-rs GET + serde_json, sync", hit.ratios(), "x", at_most=HIT_AT_MOST),
        Result(
            "read by id past the cache / sqlx's pool, sync",
            read.ratios(),
            "x",
            at_most=READ_AT_MOST,
            note=sqlx,
        ),
    ]


def _build() -> Path:
    target = Checkout.here().cache_dir / "bench-peers"
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", CRATE / "Cargo.toml"]
    subprocess.run([*command, "--target-dir", target], check=True)
    return target / "release" / "groundwork-bench-peers"


@contextmanager
def _peers(program: Path, servers: BenchServers) -> Iterator[Ask]:
    """Start the program, and yield a function that runs some calls and returns the seconds of each."""
    redis = urlsplit(servers.raw_redis)
    sql = queries("users")["find_user_by_github_id"].sql.decode()
    environment = {
        "PEER_REDIS_URL": redis._replace(query="").geturl(),
        "PEER_REDIS_CA": str(servers.redis.ca_file),
        "PEER_REDIS_KEY": _KEY,
        "PEER_DATABASE_URL": servers.postgres.database_url("app_a"),
        "PEER_SQL": sql.replace("%(github_id)s", "$1"),
    }
    with raw_redis(servers) as raw:
        raw.set(_KEY, msgspec.json.encode(servers.user))
    with subprocess.Popen(
        [program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(name: str, calls: int) -> float:
            print(name, calls, file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError("bench: the program of the Rust drivers has ended; its error is above")
            return float(answer)

        try:
            yield ask
        finally:
            # The program ends at the end of its input.
            process.stdin.close()


def _turns(ours: Callable[[], object], theirs: Callable[[], float]) -> Turns:
    """As take_turns, for a side that measures itself."""
    turns = Turns([], [])
    for number in range(ROUNDS + 1):
        mine, others = [], []
        for _ in range(_CALLS // _RUN):
            mine.append(seconds(ours, _RUN))
            others.append(theirs())
        if number:
            turns.ours.append(median(mine))
            turns.theirs.append(median(others))
    return turns


def _versions() -> dict[str, str]:
    packages = tomllib.loads((CRATE / "Cargo.lock").read_text())["package"]
    return {each["name"]: each["version"] for each in packages}

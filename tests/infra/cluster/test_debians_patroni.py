"""The negative control of the drills: with the Patroni of Debian 12, a freeze loses acknowledged writes.

Patroni 3.0.2 puts the leader key without a comparison if its lease has ended meanwhile
(https://github.com/patroni/patroni/pull/2689). A primary that is thawed can take the key back from its successor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from infra.docker.engine import docker, psql
from infra.spec.roles import DATABASE
from tests.containers import pause, wait_until
from tests.infra.checkout import CheckoutCopy
from tests.infra.cluster.conftest import LIMIT_SECONDS, LiveCluster
from tests.infra.cluster.writers import SCHEMA_SQL, Writers, writing
from tests.promises import promise
from tests.scale import IS_FULL

pytestmark = pytest.mark.skipif(
    not IS_FULL, reason="SCALE=full: it needs a stack of its own, and up to 12 freezes"
)

_LOCK = """\
patroni==3.0.2 \\
    --hash=sha256:3cd11924c27a901468c5cde61468abca8ce9c92a33a67e6c040523eae2f731d4
"""
# It depends on a race. Of four freezes, two lost writes.
_FREEZES = 12
# Writes that only the successor has.
_WRITES = 200


@pytest.fixture(scope="module")
def old_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    with CheckoutCopy.temporary(tmp_path_factory.mktemp("checkout")) as copy:
        (copy.root / "infra/images/patroni/requirements.lock").write_text(_LOCK)
        copy.settings(postgresReplicas=2)
        copy.succeed("up")
        live = LiveCluster.of(copy)
        psql(live.primary(), SCHEMA_SQL, database=DATABASE)
        yield live


@promise("no acknowledged write is lost when the primary is killed, frozen, cut off or moved", control=True)
def test_a_freeze_loses_acknowledged_writes_with_patroni_3_0_2(old_cluster: LiveCluster) -> None:
    for _ in range(_FREEZES):
        if _lost_by_a_freeze(old_cluster):
            return
        old_cluster.wait_until_whole()
    pytest.fail(f"{_FREEZES} freezes lost nothing")


def _lost_by_a_freeze(cluster: LiveCluster) -> set[int]:
    """Freeze the primary until its successor has acknowledged writes, and return those that are lost afterwards."""
    with writing(cluster.url) as writers:
        wait_until(lambda: len(writers.acknowledged) >= 100, LIMIT_SECONDS)
        frozen = cluster.primary()
        pause(frozen)
        try:
            since = time.monotonic() + 2
            wait_until(lambda: writers.has_written_since(since, _WRITES), LIMIT_SECONDS)
        finally:
            docker("unpause", frozen)
        thawed = time.monotonic() + 10
        # After a loss the other members do not return, and without them no write is acknowledged.
        wait_until(lambda: bool(_lost(writers)) or writers.has_written_since(thawed), LIMIT_SECONDS)
    return _lost(writers)


def _lost(writers: Writers) -> set[int]:
    acknowledged = set(writers.acknowledged)
    try:
        return acknowledged - writers.rows()
    except psycopg.OperationalError:
        # No server is the primary at the moment.
        return set()

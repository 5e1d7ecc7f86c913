"""How a member of etcd stops: its leadership moves, and then the process is killed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.images.context import IMAGES
from infra.spec import etcd
from infra.spec.postgres import CONFIG_DIR
from tests.promises import promise

SCRIPT = IMAGES / "etcd" / "groundwork-etcd"
ADDRESSES = {member: f"10.1.2.{30 + number}" for number, member in enumerate(etcd.MEMBERS)}
# Like etcd, it ends on SIGTERM.
ETCD = """#!/bin/sh
trap 'echo "etcd got SIGTERM" >> "$CALLS"; exit' TERM
echo running
while :; do sleep 0.05; done
"""
ETCDCTL = """#!/bin/sh
for last; do :; done
case "$*" in
    *"endpoint status") echo "https://10.1.2.30:2379, a1, 3.4.23, 90 kB, $LEADS, false, 8, 231, 231, " ;;
    *"member list")
        echo "a1, started, etcd-1, https://10.1.2.30:2380, https://10.1.2.30:2379, false"
        echo "b2, started, etcd-2, https://10.1.2.31:2380, https://10.1.2.31:2379, false"
        echo "c3, unstarted, , https://10.1.2.32:2380, , false"
        echo "d4, started, etcd-3, https://10.1.2.32:2380, https://10.1.2.32:2379, false"
        ;;
    *move-leader*) echo "move-leader $last" >> "$CALLS"; [ "$last" = "$ACCEPTS" ] ;;
esac
"""


def stop(folder: Path, *, leads: str, accepts: str = "") -> list[str]:
    """Start the script with a fake etcd, stop it as Docker does, and return what etcd and etcdctl noted."""
    calls = folder / "calls"
    calls.touch()
    conf = etcd.render_conf("etcd-1", ADDRESSES).replace(etcd.DATA_DIR, str(folder))
    (folder / "etcd.yml").write_text(conf)
    (folder / "data" / "member").mkdir(parents=True)
    for name, text in {"etcd": ETCD, "etcdctl": ETCDCTL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    script = folder / "groundwork-etcd"
    script.write_text(SCRIPT.read_text().replace(CONFIG_DIR, str(folder)))
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "LEADS": leads,
        "ACCEPTS": accepts,
    }
    with subprocess.Popen(["sh", str(script)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.terminate()
        process.communicate(timeout=60)
    return calls.read_text().splitlines()


@promise("a stopped member of etcd breaks its connections, so that Patroni asks another member")
@pytest.mark.parametrize(
    ("leads", "accepts", "calls"),
    [
        ("false", "", []),
        ("true", "b2", ["move-leader b2"]),
        ("true", "d4", ["move-leader b2", "move-leader d4"]),
        ("true", "", ["move-leader b2", "move-leader d4"]),
    ],
    ids=["follower", "leader", "first other member is gone", "both others are gone"],
)
def test_etcd_is_killed_after_its_leadership_has_moved(
    tmp_path: Path, leads: str, accepts: str, calls: list[str]
) -> None:
    assert stop(tmp_path, leads=leads, accepts=accepts) == calls

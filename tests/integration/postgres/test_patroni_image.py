"""The entrypoint of servers with replicas: what killed bootstraps and copies left, and what it does not touch."""

from __future__ import annotations

import re

import pytest

from infra.docker.engine import docker
from infra.spec import postgres
from tests.containers import build_image
from tests.promises import promise

pytestmark = pytest.mark.usefixtures("docker_engine")

# For each list of files, runs the entrypoint beside a data folder with them, and prints the folders that are left.
# Patroni itself does not start with this configuration.
_TRY = """
echo '{"bootstrap": {}}' > /etc/groundwork/patroni.yml
for files; do
    rm -rf "$PGDATA"*
    mkdir -p "$PGDATA/global"
    for file in $files; do touch "$PGDATA/$file"; done
    groundwork-patroni > /tmp/log 2>&1 || true
    echo "$files:" $(ls "${PGDATA%/*}")
done
"""


@promise("a killed bootstrap or copy of a server begins again")
def test_only_what_a_killed_bootstrap_or_copy_left_is_put_aside() -> None:
    cases = {
        # No server has run on the first two. A copy of the primary is complete when it has a control file.
        "PG_VERSION": "15.unfinished",
        "PG_VERSION global/pg_control": "15.unfinished",
        "PG_VERSION backup_label": "",
        "PG_VERSION backup_label global/pg_control": "15",
        "PG_VERSION groundwork.cluster": "15",
        # The data of a single server, which is adopted.
        "PG_VERSION postmaster.opts": "15",
    }
    owner = f"uid={postgres.UID},gid={postgres.UID}"
    options = [f"--tmpfs={folder}:{owner}" for folder in ("/etc/groundwork", postgres.DATA_DIR)]
    run = ("run", "--rm", "--init", "--network=none", *options, "--entrypoint=sh", build_image("patroni"))
    lines = docker(*run, "-ceu", _TRY, "sh", *cases).splitlines()
    found = {
        files: re.sub(r"\.\d+$", "", left.strip()) for files, _, left in (x.partition(":") for x in lines)
    }
    assert found == cases

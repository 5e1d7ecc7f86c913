"""Write the golden records again, with the real sqlx-cli of each version."""

from __future__ import annotations

import json

from tests import containers
from tests.conftest import cloned_database
from tests.containers import Server
from tests.integration.migrator.golden import FOLDER, record_of, snapshot
from tests.integration.migrator.sqlx_cli import VERSIONS, Sqlx, sqlx_program


def record(server: Server, version: str) -> None:
    with cloned_database(server, "template0") as database:
        sqlx = Sqlx(sqlx_program(version), database.url("migrator"), FOLDER)
        steps = {}
        for name, step in (
            ("run", sqlx.run),
            ("revert", sqlx.revert),
            ("revert to 0", lambda: sqlx.revert(0)),
        ):
            done = step()
            assert done.returncode == 0, done.stdout + done.stderr
            steps[name] = snapshot(database)
    record_of(version).write_text(json.dumps(steps, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    with containers.postgres_server() as server:
        for version in VERSIONS:
            record(server, version)

"""Write the golden record again, with the real sqlx-cli."""

from __future__ import annotations

import json

from tests import containers
from tests.conftest import cloned_database
from tests.integration.migrator.golden import FOLDER, RECORD, snapshot
from tests.integration.migrator.sqlx_cli import Sqlx, sqlx_program


def record() -> None:
    with containers.postgres_server() as server, cloned_database(server, "template0") as database:
        sqlx = Sqlx(sqlx_program(), database.url("migrator"), FOLDER)
        steps = {}
        for name, step in (
            ("run", sqlx.run),
            ("revert", sqlx.revert),
            ("revert to 0", lambda: sqlx.revert(0)),
        ):
            done = step()
            assert done.returncode == 0, done.stdout + done.stderr
            steps[name] = snapshot(database)
    RECORD.write_text(json.dumps(steps, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    record()

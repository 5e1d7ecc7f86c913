"""psql's \\copy of activities, which bulk loads are compared with."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from db.named_query import queries
from infra.docker.engine import docker
from tests import containers
from tests.containers import Server


class Psql:
    """psql with the same login, TLS and published port as the data access.

    psql itself reports the duration of \\copy, so that the start of psql and its container does not count.
    """

    def __init__(self, server: Server) -> None:
        """Take the rows of the table. `\\copy` will load them in text format, which is its default."""
        self._server = server
        table = (
            queries("activities")["copy_activities"].sql.decode().removeprefix("COPY ").partition(" FROM ")[0]
        )
        self._copy = f"\\copy {table} FROM '/bench/rows'"
        columns = table.partition("(")[2].removesuffix(")")
        with psycopg.connect(server.database_url("app_a"), autocommit=True) as connection:
            with connection.cursor().copy(
                f"COPY (SELECT {columns} FROM activities) TO STDOUT".encode()
            ) as copy:
                self._rows = b"".join(copy)

    def copy_seconds(self) -> float:
        server = self._server
        url = server.database_url("app_a").replace(str(server.ca_file), "/bench/ca.pem")
        with TemporaryDirectory() as folder:
            shutil.copy(server.ca_file, Path(folder, "ca.pem"))
            Path(folder, "rows").write_bytes(self._rows)
            Path(folder).chmod(0o755)
            printed = docker(
                "run", "--rm", "--init", "--network=host", "--user=postgres", f"--volume={folder}:/bench:ro",
                "--entrypoint=psql", containers.build_image("postgres"),
                "--no-psqlrc", f"--dbname={url}", "--command=\\timing on", f"--command={self._copy}",
            )  # fmt: skip
        found = re.search(r"^Time: ([\d.]+) ms", printed, re.MULTILINE)
        assert found, printed
        assert f"COPY {len(self._rows.splitlines())}" in printed, printed
        return float(found[1]) / 1000

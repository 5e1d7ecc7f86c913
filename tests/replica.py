"""A Postgres with a streaming replica: a second server in the same container, on another port.

The replica can be paused, so that a test decides what it has replayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from infra.docker.engine import docker
from infra.spec import postgres
from tests import containers
from tests.containers import START_SECONDS, Server
from tests.faults.network import address

REPLICA_PORT = 5433
_FOLDER = "/tmp/replica"
_SOCKETS = "/tmp"
_PSQL = "psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname=postgres"
_REPLICA_PSQL = f"{_PSQL} --host={_SOCKETS} --port={REPLICA_PORT}"


@dataclass(frozen=True)
class Pair:
    """A primary and its replica. Both have the same logins and certificates."""

    primary: Server

    def replica_psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL on the replica as the superuser and return its output."""
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        place = [f"--host={_SOCKETS}", f"--port={REPLICA_PORT}", f"--dbname={database}"]
        return docker("exec", self.primary.container, *command, *place, "--command", sql).strip()

    def url(self, login: str, database: str, *, servers: str = "replica") -> str:
        """Return a URL with these servers, separated by commas: `primary`, `replica`."""
        # By the container's address, because only the primary's port is published.
        here = address(self.primary)
        ports = {"primary": str(postgres.PORT), "replica": str(REPLICA_PORT)}
        named = servers.split(",")
        hosts = ",".join(f"localhost:{ports[name]}" for name in named)
        return (
            f"postgresql://{login}:{quote(self.primary.passwords[login])}@{hosts}/{database}"
            f"?sslmode=verify-full&sslrootcert={self.primary.ca_file}&hostaddr={','.join(here for _ in named)}"
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the replica receive WAL without replaying it."""
        self._run(f"""
            {_REPLICA_PSQL} --command='SELECT pg_wal_replay_pause()'
            until [ "$({_REPLICA_PSQL} --command='SELECT pg_get_wal_replay_pause_state()')" = paused ]
            do sleep 0.05
            done
        """)
        try:
            yield
        finally:
            self.replica_psql("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Wait until the replica has replayed all that the primary has."""
        self._run(f"""
            lsn=$({_PSQL} --host={postgres.SOCKET_DIR} --command='SELECT pg_current_wal_flush_lsn()')
            until [ "$({_REPLICA_PSQL} --command="SELECT pg_last_wal_replay_lsn() >= '$lsn'")" = t ]
            do sleep 0.05
            done
        """)

    def start_replica(self) -> None:
        """Start the replica, and wait until it accepts connections."""
        options = {
            "config_file": f"{postgres.CONFIG_DIR}/postgresql.conf",
            "hba_file": f"{postgres.CONFIG_DIR}/pg_hba.conf",
            "port": str(REPLICA_PORT),
            "unix_socket_directories": _SOCKETS,
            "primary_conninfo": f"host={postgres.SOCKET_DIR} user=postgres",
        }
        given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        docker("exec", "--detach", self.primary.container, "postgres", "-D", _FOLDER, *given)
        self._run(f"until pg_isready --quiet --host={_SOCKETS} --port={REPLICA_PORT}; do sleep 0.05; done")

    def stop_replica(self) -> None:
        docker("exec", self.primary.container, "pg_ctl", "stop", "-D", _FOLDER, "--mode=immediate")

    def _run(self, script: str) -> None:
        """Run a shell script in the container. A loop in it costs less than a `docker exec` for each try."""
        docker("exec", self.primary.container, "sh", "-euc", script, timeout_seconds=START_SECONDS)


@contextmanager
def replicated_postgres() -> Iterator[Pair]:
    """Start a primary with its replica."""
    hba = f"local replication postgres peer\n{postgres.render_hba('all')}"
    with containers.postgres_server(
        # Data and WAL of both are in memory.
        {"wal_keep_size": "128MB", "max_wal_size": "128MB", "min_wal_size": "32MB"},
        extra_files={"pg_hba.conf": hba},
        in_memory=True,
        run_options=["--tmpfs", f"{_FOLDER}:uid={postgres.UID},gid={postgres.GID},mode=0700"],
    ) as server:
        pair = Pair(server)
        copying = ("pg_basebackup", "--pgdata", _FOLDER, "--checkpoint=fast", "--write-recovery-conf")
        docker("exec", server.container, *copying, timeout_seconds=START_SECONDS)
        pair.start_replica()
        yield pair

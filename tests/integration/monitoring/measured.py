"""Prometheus and the exporters with a test's servers, in the image and with the configuration of a stack."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.certificates import KeyPair
from infra.docker.engine import File, docker, write_files
from infra.monitoring import configuration
from infra.outputs import ROLES
from infra.spec import roles
from infra.spec.monitoring import POSTGRES_EXPORTER, PROMETHEUS, REDIS_EXPORTER, SERVICES, UIDS
from tests.containers import LABEL, Server, build_image, wait_until

# Not 1 s, because on a busy machine the exporters take a large part of it.
SCRAPE_SECONDS = 3


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus. `containers` maps services to containers."""

    port: int
    containers: Mapping[str, str]

    def get(self, path: str, **parameters: str) -> Any:
        """Return the `data` of an answer of the API."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def series(self) -> dict[str, list[dict[str, str]]]:
        """Return the labels of all series, by metric."""
        found = defaultdict(list)
        for labels in self.get("series", **{"match[]": '{__name__!=""}'}):
            found[labels.pop("__name__")].append(labels)
        return dict(found)

    def value(self, expression: str) -> float:
        """Return the value of an expression with one result."""
        (result,) = self.get("query", query=expression)["result"]
        return float(result["value"][1])

    def targets(self) -> dict[str, str]:
        """Return the health of the targets, by job."""
        return {target["labels"]["job"]: target["health"] for target in self.get("targets")["activeTargets"]}

    def alerts(self) -> dict[str, str]:
        """Return the state (pending or firing) of the active alerts, by name."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.get("alerts")["alerts"]}

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def measured(
    postgres: Server, database: str, redis: Server, others: Mapping[str, int]
) -> Iterator[Prometheus]:
    """Run Prometheus and the exporters for two servers.

    `others` maps jobs to the ports of other processes with metrics on this machine.
    """
    image = build_image("monitoring")
    ports = {service: free_port() for service in SERVICES}
    targets = {
        "postgres": [_listen(ports[POSTGRES_EXPORTER])],
        "redis": [_listen(ports[REDIS_EXPORTER])],
        "prometheus": [_listen(ports[PROMETHEUS])],
        **{job: [_listen(port)] for job, port in others.items()},
    }
    end = datetime.now(UTC) + timedelta(days=300)
    with ExitStack() as stack:
        containers = {
            POSTGRES_EXPORTER: postgres_exporter(stack, image, ports[POSTGRES_EXPORTER], postgres, database),
            REDIS_EXPORTER: redis_exporter(stack, image, ports[REDIS_EXPORTER], redis),
            PROMETHEUS: run(
                stack,
                image,
                PROMETHEUS,
                configuration.prometheus_command(
                    retention="1d", disk_mb=256, listen=_listen(ports[PROMETHEUS])
                ),
                {
                    **configuration.prometheus_files(
                        configuration.render_prometheus("test", targets, scrape_seconds=SCRAPE_SECONDS),
                        redis_maxclients=1000,
                    ),
                    configuration.CERTIFICATES_FILE: configuration.render_certificates(
                        {"postgres": end, "redis": end}
                    ),
                },
                tmpfs=configuration.DATA_DIR,
            ),
        }
        prometheus = Prometheus(ports[PROMETHEUS], containers)
        wait_until(prometheus.is_ready, 60)
        yield prometheus


def postgres_exporter(
    stack: ExitStack, image: str, port: int, server: Server, database: str, authority: KeyPair | None = None
) -> str:
    """Start the exporter and return its container. It trusts the server's CA unless another is given."""
    login = roles.login_of("monitor", 1)
    return run(
        stack,
        image,
        POSTGRES_EXPORTER,
        configuration.postgres_exporter_command(_listen(port)),
        {
            "pgpass": configuration.pgpass({login: server.passwords[login]}),
            "queries.yml": configuration.POSTGRES_QUERIES.read_text(),
            "ca.crt": (authority or server.authority).certificate,
        },
        configuration.postgres_exporter_environment("localhost", server.port, login, database),
    )


def redis_exporter(
    stack: ExitStack, image: str, port: int, server: Server, authority: KeyPair | None = None
) -> str:
    """Start the exporter and return its container. It trusts the server's CA unless another is given."""
    user = ROLES["monitor"][1]
    assert user is not None
    address = configuration.redis_address("localhost", server.port)
    return run(
        stack,
        image,
        REDIS_EXPORTER,
        configuration.redis_exporter_command(address, user, _listen(port), _listen(free_port())),
        {
            "redis_passwords.json": configuration.redis_passwords([address], server.passwords[user]),
            "ca.crt": (authority or server.authority).certificate,
        },
    )


def scrape(port: int) -> str:
    """Return the current metrics of an exporter, or an empty string while it does not listen yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def log(container: str) -> str:
    """Return stdout and stderr of a container."""
    done = subprocess.run(
        ["docker", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    return done.stdout.decode()


def _listen(port: int) -> str:
    return f"127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run(
    stack: ExitStack,
    image: str,
    service: str,
    command: Sequence[str],
    files: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    tmpfs: str | None = None,
    network: str = "host",
) -> str:
    """Start a service of the monitoring, hardened as in a stack, and return its container."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    uid = UIDS[service]
    docker("volume", "create", "--label", LABEL, name)
    stack.callback(docker, "volume", "rm", "--force", name)
    write_files(name, image, {path: File(text, uid, uid) for path, text in files.items()})
    stack.callback(docker, "rm", "--force", "--volumes", name)
    docker(
        "run", "--detach", "--name", name, "--label", LABEL, "--network", network, "--user", f"{uid}:{uid}",
        "--volume", f"{name}:{configuration.CONFIG_DIR}:ro", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges=true", "--memory", "256m", "--memory-swap", "256m",
        *((f"--tmpfs={tmpfs}:uid={uid},gid={uid},mode=0700",) if tmpfs else ()),
        *(f"--env={key}={value}" for key, value in (environment or {}).items()), image, *command,
    )  # fmt: skip
    return name

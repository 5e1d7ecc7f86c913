"""What a user of this machine reaches through the monitoring's HTTP servers, which have no login.

Docker publishes only Prometheus's port, but a user of the machine reaches every container at its own address. The
exporters run as in a stack, and the listener that the requests name is a container too.
"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from infra.certificates import make_authority
from infra.docker.engine import docker
from infra.monitoring import configuration, replicas
from infra.spec import redis
from infra.spec.monitoring import PORTS, POSTGRES_EXPORTER, PROMETHEUS, REDIS_EXPORTER
from tests.containers import build_image, wait_until
from tests.integration.monitoring.conftest import Scene
from tests.integration.monitoring.measured import log, run
from tests.promises import promise

_LISTEN = f"""
use IO::Socket::INET;
$| = 1;
$listener = IO::Socket::INET->new(LocalPort => {redis.PORT}, Listen => 16) or die;
while ($connection = $listener->accept) {{ print $connection->peerhost, "\\n"; close $connection }}
"""
COMMAND = configuration.redis_exporter_command(configuration.redis_address("nowhere", redis.PORT), "monitor")


@pytest.fixture(scope="module")
def listener(docker_engine: None) -> Iterator[str]:
    """A container that prints the address of each connection's other end."""
    with ExitStack() as stack:
        yield run(
            stack,
            build_image("monitoring"),
            PROMETHEUS,
            ["perl", "-e", _LISTEN],
            {"none": ""},
            network="bridge",
        )


@contextmanager
def exporter(service: str, command: Sequence[str], servers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run an exporter, and yield its container.

    `servers` are those of a Redis with replicas: name -> address.
    """
    files = {"redis_passwords.json": "{}", "ca.crt": make_authority("nobody").certificate}
    environment = None
    if servers:
        files[replicas.PATHS_FILE] = replicas.render_redis_paths(servers)
        environment = replicas.REDIS_ENVIRONMENT
    with ExitStack() as stack:
        yield run(stack, build_image("monitoring"), service, command, files, environment, network="bridge")


@pytest.fixture(scope="module")
def redis_exporter(docker_engine: None) -> Iterator[str]:
    """The container of an exporter as in a stack without replicas."""
    with exporter(REDIS_EXPORTER, COMMAND) as container:
        yield container


def of(service: str, container: str) -> str:
    """Return the address (host:port) at which this machine reaches an exporter."""
    return f"{address(container)}:{PORTS[service]}"


def address(container: str) -> str:
    return json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]  # type: ignore[no-any-return]


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Return status and text of an answer, or (0, reason) if there is no HTTP server."""
    request = urllib.request.Request(f"http://{url}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def connects(listener: str, *urls: str) -> bool:
    """Return whether another container connects to the listener while the URLs are requested."""
    before = peers(listener)
    for url in urls:
        ask(url)
    # The listener prints in order, so all earlier connections are in its log after one of this machine.
    with socket.create_connection((address(listener), redis.PORT), 10) as own:
        machine = own.getsockname()[0]
    wait_until(lambda: peers(listener).count(machine) > before.count(machine))
    after = peers(listener)
    return len(after) - after.count(machine) > len(before) - before.count(machine)


def peers(listener: str) -> list[str]:
    return log(listener).split()


def attacks(where: str, listener: str) -> list[str]:
    target = f"{address(listener)}:{redis.PORT}"
    return [
        f"{where}/{path}?target={scheme}{target}"
        for path in ("scrape", "metrics/../scrape", "/scrape", "%73crape", "scrape/", "probe")
        for scheme in ("", "redis://", "rediss://")
    ]


@promise("no request makes an exporter connect to another address")
def test_the_redis_exporter_connects_to_no_address_that_a_request_names(
    listener: str, redis_exporter: str
) -> None:
    where = of(REDIS_EXPORTER, redis_exporter)
    wait_until(lambda: ask(f"{where}/health")[0] == 200)
    assert ask(f"{where}/metrics?target=x")[1].count("redis_up 0") == 1
    assert not connects(listener, *attacks(where, listener))
    for path in ("scrape", "", "-/reload", "metrics/", "health/x", "METRICS"):
        assert ask(f"{where}/{path}")[0] == 403, path


@promise("no request makes an exporter connect to another address")
def test_with_replicas_a_path_leads_to_its_own_server_only(listener: str) -> None:
    servers = {
        "redis-2": configuration.redis_address("nowhere", redis.PORT),
        "redis-3": configuration.redis_address(address(listener), redis.PORT),
    }
    command = configuration.redis_exporter_command("", "monitor")
    with exporter(REDIS_EXPORTER, command, servers) as container:
        where = of(REDIS_EXPORTER, container)
        wait_until(lambda: ask(f"{where}/health")[0] == 200)
        asked = f"{where}/metrics/redis-2?target={servers['redis-3']}"
        assert ask(asked)[1].count("redis_up 0") == 1
        assert not connects(listener, asked, *attacks(where, listener))
        for path in ("metrics", "scrape", "metrics/", "metrics/redis-4", "metrics/redis-2/"):
            assert ask(f"{where}/{path}")[0] == 403, path
        # The control: the listener notices a connection.
        assert connects(listener, f"{where}/metrics/redis-3")
        assert ask(f"{where}/metrics", "POST")[0] == 403
        # Its own port is on the loopback interface of the container.
        host = where.partition(":")[0]
        assert ask(f"{host}:9122/metrics")[0] == 0


@promise("no request makes an exporter connect to another address", control=True)
def test_without_the_filter_the_exporter_connects_where_a_request_says(listener: str) -> None:
    bare = ["prometheus-redis-exporter", f"-web.listen-address=:{PORTS[REDIS_EXPORTER]}", *COMMAND[3:]]
    with exporter(REDIS_EXPORTER, bare) as container:
        where = of(REDIS_EXPORTER, container)
        wait_until(lambda: ask(f"{where}/health")[0] == 200)
        assert connects(listener, *attacks(where, listener))


@promise("no request makes an exporter connect to another address")
def test_the_postgres_exporter_connects_to_no_address_that_a_request_names(listener: str) -> None:
    command = ["env", "DATA_SOURCE_URI=127.0.0.1:1/x", "prometheus-postgres-exporter"]
    with exporter(POSTGRES_EXPORTER, command) as container:
        where = of(POSTGRES_EXPORTER, container)
        wait_until(lambda: ask(f"{where}/")[0] == 200)
        assert not connects(listener, *attacks(where, listener))


_KILL = 'for p in /proc/[0-9]*; do [ "$(cat "$p/comm")" = "$0" ] && kill -9 "${p#/proc/}" && exit; done; true'


def test_the_container_ends_when_the_exporter_of_one_replica_ends(docker_engine: None) -> None:
    """Docker then starts all of them again."""
    members = {"postgres": "127.0.0.1", "postgres-2": "127.0.0.1"}
    command = replicas.postgres_exporters_command(members)
    files = {
        "pgpass": configuration.pgpass({"monitor_a": "x"}),
        "queries.yml": replicas.postgres_queries(),
        "ca.crt": make_authority("nobody").certificate,
    }
    environment = configuration.postgres_login_environment("monitor_a")
    with ExitStack() as stack:
        container = run(
            stack, build_image("monitoring"), POSTGRES_EXPORTER, command, files, environment, network="bridge"
        )
        for port in (PORTS[POSTGRES_EXPORTER], PORTS[POSTGRES_EXPORTER] + 1):
            wait_until(lambda port=port: ask(f"{address(container)}:{port}/")[0] == 200)  # type: ignore[misc]
        require_end(container, "prometheus-post")


def test_the_container_ends_when_the_exporter_or_its_filter_ends(redis_exporter: str) -> None:
    """Docker then starts both again."""
    for process in ("haproxy", "prometheus-redi"):
        docker("start", redis_exporter)
        wait_until(lambda: ask(f"{of(REDIS_EXPORTER, redis_exporter)}/health")[0] == 200)
        require_end(redis_exporter, process)


def require_end(container: str, process: str) -> None:
    """Kill a process of a container, and wait until the container has ended. A name in /proc has 15 characters."""
    # Detached, because the container may end before the command does.
    docker("exec", "--detach", container, "bash", "-c", _KILL, process)
    wait_until(lambda: docker("inspect", "--format", "{{.State.Running}}", container).strip() == "false")


@promise("no request stops, reloads or changes Prometheus")
def test_no_request_stops_reloads_or_changes_prometheus(scene: Scene) -> None:
    for path, reason in (
        ("-/quit", "Lifecycle API is not enabled"),
        ("-/reload", "Lifecycle API is not enabled"),
        ("api/v1/admin/tsdb/snapshot", "admin APIs disabled"),
        ("api/v1/admin/tsdb/clean_tombstones", "admin APIs disabled"),
        ("api/v1/admin/tsdb/delete_series?match[]=up", "admin APIs disabled"),
        ("api/v1/write", "remote write receiver needs to be enabled"),
    ):
        for method in ("POST", "PUT"):
            status, text = ask(f"127.0.0.1:{scene.prometheus.port}/{path}", method)
            assert reason in text or status == 405, (method, path)
            assert status >= 400, (method, path)
            assert scene.prometheus.is_ready(), (method, path)


@promise("no request stops, reloads or changes Prometheus")
def test_a_page_of_another_origin_cannot_read_the_measurements(scene: Scene) -> None:
    url = f"http://127.0.0.1:{scene.prometheus.port}/api/v1/query?query=up"
    for origin in ("http://example.org", "null", "a"):
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Origin": origin}), timeout=30
        ) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] is None

"""The live stack in Docker: hardening, files, client commands. tests/infra/live tests what every target promises."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from click.testing import CliRunner

from infra import outputs
from infra.docker.engine import psql
from infra.spec import monitoring
from infra.spec.checkout import Checkout
from ops.commands.stack import status
from ops.stack.pulumi_stack import PulumiStack
from tests.cases import in_case
from tests.containers import wait_until
from tests.infra.conftest import STACK, LiveStack, groundwork, groundwork_here
from tests.promises import promise

SERVICES = ("postgres", "redis", "access", *monitoring.SERVICES)
Urls = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def role_urls(live_stack: LiveStack) -> Urls:
    """Return role -> output of `groundwork env --format json`. The stack's outputs are decrypted once for all roles."""
    current = PulumiStack(Checkout.here(), STACK).outputs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PulumiStack, "outputs", lambda _: current)
        return {
            role: json.loads(groundwork_here("env", "--stack", STACK, "--role", role, "--format", "json"))
            for role in outputs.ROLES
        }


@promise("containers run without root, capabilities or a writable root")
def test_no_container_runs_as_root_or_can_become_root(live_stack: LiveStack) -> None:
    for service in SERVICES:
        status = live_stack.host(service).check_output("cat /proc/1/status")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert "0" not in fields["Uid"].split(), service
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0, service
        assert fields["NoNewPrivs"].strip() == "1", service


@promise("containers run without root, capabilities or a writable root")
def test_the_root_file_system_is_read_only(live_stack: LiveStack) -> None:
    for service in SERVICES:
        probe = "for file in /usr/probe /etc/probe /tmp/probe; do touch $file && echo $file; done"
        assert live_stack.host(service).run(probe).stdout.split() == ["/tmp/probe"], service


@promise("containers have limits for memory, processes and logs")
def test_memory_processes_logs_and_ports_are_limited(live_stack: LiveStack) -> None:
    for service in SERVICES:
        found = live_stack.inspect(service)
        config = found["HostConfig"]
        assert config["Memory"] == config["MemorySwap"] > 0, service
        assert config["PidsLimit"] > 0, service
        assert config["LogConfig"]["Config"].keys() == {"max-size", "max-file"}, service
        addresses = {b["HostIp"] for entry in (config["PortBindings"] or {}).values() for b in entry}
        # A service that is used only inside the data network publishes no port.
        assert addresses == (set() if service.endswith("-exporter") else {"127.0.0.1"}), service
        assert not [mount for mount in found["Mounts"] if "docker.sock" in mount["Source"]], service


SECRET_FOLDERS = {
    "postgres": "/etc/groundwork",
    "redis": "/etc/groundwork",
    "access": "/run/secrets/groundwork",
    "postgres-exporter": "/etc/groundwork",
    "redis-exporter": "/etc/groundwork",
}


@promise("secret files are readable only by their server")
def test_secret_files_are_readable_only_by_their_server(live_stack: LiveStack) -> None:
    for service, folder in SECRET_FOLDERS.items():
        uid = live_stack.inspect(service)["Config"]["User"].split(":")[0]
        command = f"cd {folder} && ls -A | xargs stat -c '%n %u %a'"
        lines = live_stack.host(service).check_output(command).splitlines()
        modes = {name: mode for name, _, mode in (line.partition(" ") for line in lines)}
        assert "ca.crt" in modes, service
        assert set(modes.values()) == {f"{uid} 400"}, (service, modes)


@promise("no secret leaves the program, Docker's inspection or the state in clear")
def test_no_secret_is_in_docker_inspect_or_in_an_environment(live_stack: LiveStack, role_urls: Urls) -> None:
    passwords = [
        url.split("//", 1)[1].split("@", 1)[0].split(":", 1)[1]
        for urls in role_urls.values()
        for url in urls.values()
    ]
    assert len(passwords) == 7
    for service in SERVICES:
        shown = json.dumps(live_stack.inspect(service))
        shown += live_stack.host(service).run("cat /proc/1/environ /proc/1/cmdline").stdout
        shown += subprocess.run(
            ["docker", "logs", live_stack.container(service)],
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
        ).stdout
        assert not [password for password in passwords if password in shown], service


@promise("the images contain no compiler")
def test_images_contain_no_compiler(live_stack: LiveStack) -> None:
    for service in SERVICES:
        script = "command -v sh; for name in cc gcc clang go rustc; do command -v $name; done"
        (shell,) = live_stack.host(service).run(script).stdout.split()
        assert shell.endswith("/sh"), service


@promise("data checksums are on, and PGDATA is private")
def test_data_checksums_are_on(role_urls: Urls) -> None:
    with psycopg.connect(role_urls["monitor"]["DATABASE_URL"]) as connection:
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)


@promise("data checksums are on, and PGDATA is private")
def test_pgdata_is_private(live_stack: LiveStack) -> None:
    assert live_stack.host("postgres").run("stat -c %a /var/lib/postgresql/15").stdout.strip() == "700"


@promise("the printed URLs connect psql, psycopg and redis-py with CA and host name checked")
def test_the_printed_database_urls_connect_psql_and_psycopg(live_stack: LiveStack, role_urls: Urls) -> None:
    printed = [urls["DATABASE_URL"] for urls in role_urls.values() if "DATABASE_URL" in urls]
    assert len(printed) == 4
    for url in printed:
        assert "sslmode=verify-full" in url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    ca_file = live_stack.outputs[outputs.CA_FILE]
    image = live_stack.inspect("postgres")["Image"]
    script = (
        'for url; do psql "$url" --no-psqlrc --tuples-only --no-align --command="SELECT session_user"; done'
    )
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--init", "--network=host", "--user=0"),
            *(f"--volume={ca_file}:{ca_file}:ro", "--entrypoint=sh", image, "-c", script, "sh", *printed),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [urlsplit(url).username for url in printed], done.stderr


@promise("the printed URLs connect psql, psycopg and redis-py with CA and host name checked")
def test_the_printed_redis_urls_connect_with_the_ca_and_the_name_checked(role_urls: Urls) -> None:
    printed = [urls["REDIS_URL"] for urls in role_urls.values() if "REDIS_URL" in urls]
    assert len(printed) == 3
    for url in printed:
        assert redis.Redis.from_url(url).ping()
        elsewhere = url.replace("@localhost:", "@127.0.0.2:")
        with pytest.raises(redis.ConnectionError):
            redis.Redis.from_url(elsewhere).ping()


@promise("a role without one of the two servers leaves that variable out")
def test_env_omits_the_url_of_a_server_that_the_role_cannot_use(role_urls: Urls) -> None:
    both = {"DATABASE_URL", "REDIS_URL"}
    assert {role: set(urls) for role, urls in role_urls.items()} == {
        "app": both,
        "monitor": both,
        "readonly": {"DATABASE_URL"},
        "migrator": {"DATABASE_URL"},
        "ops": {"REDIS_URL"},
    }


def test_prometheus_reaches_every_target(live_stack: LiveStack) -> None:
    url = live_stack.outputs[outputs.PROMETHEUS_URL]

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]

    def health() -> dict[str, str]:
        return {t["labels"]["job"]: t["health"] for t in ask("targets")["activeTargets"]}

    # Prometheus scrapes a target for the first time within one interval of 15 s.
    wait_until(lambda: health() == dict.fromkeys(monitoring.JOBS, "up"), 180)
    for metric in ("pg_up", "redis_up"):
        wait_until(lambda metric=metric: _value(ask(f"query?query={metric}")) == "1", 180)  # type: ignore[misc]
    wait_until(
        lambda: {rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]} == {"ok"}, 180
    )


def test_prometheus_has_the_pages_that_the_documentation_names(live_stack: LiveStack) -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    pages = {*re.findall(r"`(/classic/\w+|/graph)`", page), *re.findall(r"alerts: (/[\w/]+)", _status())}
    assert pages == {"/classic/alerts", "/classic/rules", "/graph"}
    for page in pages:
        with urllib.request.urlopen(
            f"{live_stack.outputs[outputs.PROMETHEUS_URL]}{page}", timeout=30
        ) as answer:
            assert answer.status == 200


def test_metrics_are_kept_in_their_own_volume(live_stack: LiveStack) -> None:
    mounts = {m["Destination"]: m for m in live_stack.inspect("prometheus")["Mounts"]}
    data = mounts["/var/lib/prometheus"]
    assert (data["Type"], data["RW"]) == ("volume", True)
    assert data["Name"].endswith("-test-prometheus-data")
    assert live_stack.host("prometheus").file("/var/lib/prometheus/wal").is_directory


def test_logs_shows_the_log_of_every_service(live_stack: LiveStack) -> None:
    said = groundwork("logs", "--stack", STACK).splitlines()
    assert {f"== {service}" for service in SERVICES} <= set(said)


def test_status_shows_the_address_of_prometheus(live_stack: LiveStack) -> None:
    port = live_stack.outputs[outputs.PROMETHEUS_URL].rpartition(":")[2]
    assert f"Prometheus: http://127.0.0.1:{port}" in _status()


def test_redis_cli_and_psql_commands_answer(live_stack: LiveStack) -> None:
    """Roles and the superuser find tables by their unqualified names, each in its own way."""
    assert groundwork("redis-cli", "--stack", STACK, "PING").strip() == "PONG"
    for role in ("superuser", "app"):
        answer = groundwork("psql", "--stack", STACK, "--role", role, "-Atc", "SELECT to_regclass('users')")
        assert answer.strip() == "users", role


def test_a_stopped_psql_leaves_no_session(live_stack: LiveStack) -> None:
    """Without a terminal, `docker exec` forwards no signal."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"
    # Under nohup, the tests and their commands ignore SIGHUP.
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from ops.cli import main; main()"
    command = (sys.executable, "-c", code, "psql", "--stack", STACK, "-c", "SELECT pg_sleep(600)")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with (
            in_case(number),
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
        ):
            wait_until(lambda: psql(live_stack.container("postgres"), sessions).strip() == "1", 180)
            process.send_signal(number)
            _, said = process.communicate(timeout=180)
            assert process.returncode == 128 + number
            assert psql(live_stack.container("postgres"), sessions).strip() == "0"
            assert "the session was ended" in said


@promise("`status` names each part that is unhealthy or missing")
def test_status_reports_every_part_as_healthy(live_stack: LiveStack) -> None:
    rows = json.loads(_status("--json"))
    assert [(row["service"], row["health"]) for row in rows] == [(s, "healthy") for s in SERVICES]


@promise("doctor finds no problem on a new stack")
def test_doctor_reports_no_finding_on_a_new_stack(live_stack: LiveStack) -> None:
    report = json.loads(groundwork_here("doctor", "--stack", STACK, "--json"))
    skipped = {check["name"] for check in report["checks"] if check["status"] == "skipped"}
    assert [check for check in report["checks"] if check["status"] == "fail"] == []
    assert skipped <= {"unused-indexes", "backups", "replicas", "redis-replicas", "etcd", "sentinels"}


def test_report_of_a_live_stack_is_drawn(live_stack: LiveStack, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = json.loads(
        groundwork_here("report", "--stack", STACK, "--html", str(path), "--json", "--seconds", "2")
    )
    assert report["unreached"] == {}
    assert report["series"]["pool"]["values"]["most"][-1] > 0
    assert "<svg" in path.read_text()


def _status(*options: str) -> str:
    """Return the output of `groundwork status` once every part is healthy.

    The last check may have failed on a busy machine.
    """
    said = []

    def is_healthy() -> bool:
        done = CliRunner().invoke(status, ["--stack", STACK, *options])
        said.append(done.stdout)
        return done.exception is None

    wait_until(is_healthy, 180)
    return said[-1]


def _value(answer: Any) -> str | None:
    return answer["result"][0]["value"][1] if answer["result"] else None

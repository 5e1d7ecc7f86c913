"""Configuration files and command lines of the monitoring containers.

Plain data, without Pulumi. Only the results of `pgpass` and `redis_passwords` are secret. infra.monitoring.replicas has
what is different with replicas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from infra.spec.monitoring import JOBS, PORTS, POSTGRES_EXPORTER, PROMETHEUS, REDIS_EXPORTER
from infra.spec.roles import DATABASE

CONFIG_DIR = "/etc/groundwork"
DATA_DIR = "/var/lib/prometheus"
CERTIFICATES_FILE = "rules-certificates.yml"
SCRAPE_SECONDS = 15

_HERE = Path(__file__).parent
RULES = _HERE / "rules"
DASHBOARDS = _HERE / "dashboards"
POSTGRES_QUERIES = _HERE / "postgres_queries.yml"


def rule_files() -> dict[str, str]:
    """Return the text of each file of alert rules that every stack has, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(RULES.glob("*.yml"))}


def stack_targets(access_port: int, more: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the targets (host:port in the data network) of each job: the stack's and those of `monitoringTargets`."""
    own = (
        [f"{POSTGRES_EXPORTER}:{PORTS[POSTGRES_EXPORTER]}"],
        [f"{REDIS_EXPORTER}:{PORTS[REDIS_EXPORTER]}"],
        [f"access:{access_port}"],
        [f"localhost:{PORTS[PROMETHEUS]}"],
    )
    split = {job: [target.strip() for target in targets.split(",")] for job, targets in more.items()}
    return dict(zip(JOBS, own, strict=True)) | split


def render_prometheus(
    stack: str,
    targets: Mapping[str, Sequence[str]],
    scrape_seconds: int = SCRAPE_SECONDS,
    jobs: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Render prometheus.yml with the targets of each job and the path of the rule files.

    Annotations of alerts, and a Prometheus that federates this one, see the name of the stack in the label `stack`.
    `jobs` are whole scrape configurations. Each replaces the one of its name in `targets`, or is added.
    """
    interval = f"{scrape_seconds}s"
    configuration = {
        "global": {
            "scrape_interval": interval,
            "evaluation_interval": interval,
            "scrape_timeout": f"{min(scrape_seconds, 10)}s",
            "external_labels": {"stack": stack},
        },
        "rule_files": [f"{CONFIG_DIR}/rules-*.yml"],
        "scrape_configs": [
            *(
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in targets.items()
                if job not in {each["job_name"] for each in jobs}
            ),
            *jobs,
        ],
    }
    return yaml.safe_dump(configuration, sort_keys=False)


def render_certificates(not_after: Mapping[str, datetime]) -> str:
    """Render rules that record when each certificate of a server or authority expires. No exporter reports it."""
    return _recording_rules(
        "certificates",
        [
            {
                "record": "groundwork_certificate_not_after_timestamp_seconds",
                "labels": {"server": server},
                "expr": f"vector({int(end.timestamp())})",
            }
            for server, end in not_after.items()
        ],
    )


def prometheus_files(prometheus_yml: str, redis_maxclients: int) -> dict[str, str]:
    """Return the files for CONFIG_DIR of Prometheus, except CERTIFICATES_FILE."""
    rules = {f"rules-{name}": text for name, text in rule_files().items()}
    # The exporter reads maxclients with CONFIG, which user monitor may not call.
    limit = {"record": "groundwork_redis_max_clients", "expr": f"vector({redis_maxclients})"}
    return {"prometheus.yml": prometheus_yml, "rules-limits.yml": _recording_rules("limits", [limit])} | rules


def _recording_rules(group: str, rules: Sequence[Mapping[str, Any]]) -> str:
    return yaml.safe_dump({"groups": [{"name": group, "rules": rules}]}, sort_keys=False)


def prometheus_command(*, retention: str, disk_mb: int, listen: str = f":{PORTS[PROMETHEUS]}") -> list[str]:
    """Return the command line. Administration, reload and stop over HTTP are off, because the page has no login.

    No page of another origin may read the answers: the pattern matches nothing.
    """
    return [
        "prometheus",
        f"--config.file={CONFIG_DIR}/prometheus.yml",
        f"--storage.tsdb.path={DATA_DIR}",
        f"--storage.tsdb.retention.time={retention}",
        f"--storage.tsdb.retention.size={disk_mb}MB",
        f"--web.listen-address={listen}",
        "--web.cors.origin=a^",
    ]


def postgres_exporter_command(listen: str = f":{PORTS[POSTGRES_EXPORTER]}") -> list[str]:
    return [
        "prometheus-postgres-exporter",
        f"--web.listen-address={listen}",
        f"--extend.query-path={CONFIG_DIR}/queries.yml",
    ]


def postgres_exporter_environment(
    host: str, port: int, login: str, database: str = DATABASE
) -> dict[str, str]:
    """Return the connection's environment variables."""
    return {"DATA_SOURCE_URI": postgres_uri(host, port, database), **postgres_login_environment(login)}


def postgres_uri(host: str, port: int, database: str = DATABASE) -> str:
    """Return a connection without its login."""
    return f"{host}:{port}/{database}?sslmode=verify-full&sslrootcert={CONFIG_DIR}/ca.crt"


def postgres_login_environment(login: str) -> dict[str, str]:
    """Return the login's environment variables. libpq reads the password file again for each connection."""
    return {"DATA_SOURCE_USER": login, "PGPASSFILE": f"{CONFIG_DIR}/pgpass"}


def pgpass(passwords: Mapping[str, str]) -> str:
    """Render libpq's password file from login -> password, for any host and database. Secret."""
    escaped = ((login, pw.replace("\\", "\\\\").replace(":", "\\:")) for login, pw in passwords.items())
    return "".join(f"*:*:*:{login}:{password}\n" for login, password in escaped)


def redis_exporter_command(
    address: str,
    user: str,
    listen: str = f":{PORTS[REDIS_EXPORTER]}",
    behind: str = "127.0.0.1:9122",
) -> list[str]:
    """Return the command line. `address` is a result of `redis_address`, or empty if each path has its own server.

    `behind` is the exporter's own address, which only the filter at `listen` may reach.
    CONFIG and CLIENT SETNAME are off, because user monitor may not call them.
    """
    return [
        "groundwork-redis-exporter",
        listen,
        behind,
        f"-redis.addr={address}",
        f"-redis.user={user}",
        f"-redis.password-file={CONFIG_DIR}/redis_passwords.json",
        f"-tls-ca-cert-file={CONFIG_DIR}/ca.crt",
        "-config-command=-",
        "-set-client-name=false",
    ]


def redis_address(host: str, port: int) -> str:
    return f"rediss://{host}:{port}"


def redis_passwords(addresses: Sequence[str], password: str) -> str:
    """Render redis_exporter's password file (address -> password). Secret."""
    return json.dumps(dict.fromkeys(addresses, password)) + "\n"

"""The majorities that a failover needs: of etcd's members for Postgres, and of the Sentinels for Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from infra.docker.engine import DockerError, docker
from infra.spec import etcd
from infra.spec.redis import CONFIG_DIR
from infra.spec.redis_replication import GROUP, SENTINEL_NAMES, SENTINEL_PORT
from ops.doctor.check_result import STACK_OPTION, CheckResult, fail, ok, skipped, warn
from ops.doctor.examination import Examination
from ops.servers.errors import one_line

_SECONDS = 10
# The password goes through a pipe, because other users of the machine can read command lines.
_ASK_SENTINEL = f"""
cd {CONFIG_DIR}
{{ echo "AUTH monitor $(cat monitor.password)"; echo "SENTINEL CKQUORUM {GROUP}"; echo "SENTINEL MASTER {GROUP}"; }} |
    timeout 3 redis-cli -h localhost -p {SENTINEL_PORT} --tls --cacert ca.crt
"""


def stores(examination: Examination) -> CheckResult:
    """etcd: check that a majority of its members answers. Each answers only if it reaches a majority."""
    containers = _containers(examination, etcd.MEMBERS)
    if not containers:
        return skipped("the stack has no replicas of Postgres in Docker")
    failed = [line for line in _each(containers, _store_problem) if line]
    text = f"{len(containers) - len(failed)} of {len(etcd.MEMBERS)} members answer"
    return _judged(text, failed, len(etcd.MEMBERS), "no replica of Postgres can be promoted")


def sentinels(examination: Examination) -> CheckResult:
    """sentinels: check that a majority answers, and that all of them name the same primary."""
    containers = _containers(examination, SENTINEL_NAMES)
    if not containers:
        return skipped("the stack has no replicas of Redis in Docker")
    answers = dict(zip((name for name, _ in containers), _each(containers, _ask_sentinel), strict=True))
    primaries = {answer for answer in answers.values() if not answer.startswith("!")}
    failed = [
        f"{name}: {answer.removeprefix('!')}" for name, answer in answers.items() if answer.startswith("!")
    ]
    text = f"{len(answers) - len(failed)} of {len(SENTINEL_NAMES)} Sentinels answer and reach a majority"
    if len(primaries) > 1:
        named = [f"{name} names {answer}" for name, answer in answers.items() if not answer.startswith("!")]
        return warn(f"{text}, but they name different primaries", _advice("sentinel-1"), [*failed, *named])
    return _judged(text, failed, len(SENTINEL_NAMES), "no replica of Redis can be promoted")


def _judged(text: str, failed: Sequence[str], members: int, consequence: str) -> CheckResult:
    if not failed:
        return ok(text)
    service = failed[0].partition(":")[0]
    if members - len(failed) > members // 2:
        return warn(f"{text}; one more failure, and {consequence}", _advice(service), failed)
    return fail(f"{text}: {consequence}", _advice(service), failed)


def _advice(service: str) -> str:
    return (
        f"start a stopped container with `docker start`, a frozen one with `docker unpause`; otherwise see"
        f" `groundwork logs{STACK_OPTION} --service {service}`"
    )


def _containers(examination: Examination, services: Sequence[str]) -> list[tuple[str, str]]:
    """Return service and container of each service that the stack has."""
    containers = examination.stack.containers
    return [(service, containers[service]) for service in services if service in containers]


def _each(containers: Sequence[tuple[str, str]], question: Callable[[str, str], str]) -> list[str]:
    with ThreadPoolExecutor(max_workers=len(containers)) as pool:
        return list(pool.map(lambda container: question(*container), containers))


def _store_problem(service: str, container: str) -> str:
    try:
        docker("exec", container, "groundwork-health", timeout_seconds=_SECONDS)
    except DockerError as error:
        return f"{service}: {one_line(error)}"
    return ""


def _ask_sentinel(_service: str, container: str) -> str:
    """Return the address of the primary that a Sentinel names, or `!` and what is wrong."""
    try:
        answer = docker("exec", container, "sh", "-c", _ASK_SENTINEL, timeout_seconds=_SECONDS)
    except DockerError as error:
        return f"!{one_line(error)}"
    return read_sentinel(answer)


def read_sentinel(answer: str) -> str:
    """Return the primary's address in the answers to AUTH, CKQUORUM and MASTER, or `!` and what is wrong."""
    lines = answer.split("\n")
    quorum = lines[1] if len(lines) > 1 else ""
    if not quorum.startswith("OK "):
        return f"!{one_line(quorum or answer) or 'no answer within 3 s'}"
    fields = dict(zip(lines[2::2], lines[3::2], strict=False))
    return f"{fields.get('ip', '?')}:{fields.get('port', '?')}"

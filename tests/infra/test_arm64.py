"""A stack whose containers run programs for arm64 in qemu. Pulumi, the Docker engine and the tests are not emulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.docker.engine import docker, psql
from infra.spec.postgres_cluster import MEMBERS
from tests import arm64
from tests.containers import wait_until
from tests.infra.checkout import CheckoutCopy
from tests.scale import IS_FULL

pytestmark = [
    pytest.mark.skipif(not IS_FULL, reason="builds every image in qemu: SCALE=full runs it"),
    pytest.mark.skipif(bool(arm64.missing()), reason=arm64.missing() or "arm64 can be emulated"),
    pytest.mark.timeout(7200),
]
UP_SECONDS = 3600
# What the copy of the checkout has instead: file -> (text, replacement).
CHANGES = {
    "infra/images/context.py": [
        (
            "# The digest of the context",
            f'BASE_REFERENCE = BASE_IMAGE = "{arm64.BASE}"\n# The digest of the context',
        ),
        ("server().arch", '"arm64"'),
    ],
    # qemu needs memory of its own, some 30 MB for each process.
    "infra/docker/container.py": [
        ("        memory=megabytes,", "        memory=(megabytes := 4 * megabytes),")
    ],
}


@pytest.fixture(scope="module")
def stack(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckoutCopy]:
    """Yield a copy of the checkout that uses only images for arm64. Each test continues from the previous one."""
    with arm64.emulation():
        arm64.ensure_base()
        with CheckoutCopy.temporary(tmp_path_factory.mktemp("arm64")) as copy:
            change(copy)
            yield copy


def change(copy: CheckoutCopy) -> None:
    for name, changes in CHANGES.items():
        path = copy.root / name
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{name} does not contain {old!r} once"
            text = text.replace(old, new)
        path.write_text(text)


def up(stack: CheckoutCopy, **settings: object) -> bool:
    """Return whether `up` succeeded, after it has printed why not."""
    stack.settings(postgresMemory="512MB", monitoring="true", **settings)
    done = stack.run("up", timeout_seconds=UP_SECONDS)
    print(done.stdout, done.stderr)
    return done.returncode == 0


def architectures(stack: CheckoutCopy) -> list[str]:
    """Return what each running container calls its machine."""
    name = f"name=^{stack.identity.name('dev', '')}"
    running = docker("ps", "--filter", name, "--format", "{{.Names}}").split()
    return [docker("exec", container, "uname", "-m").strip() for container in running]


def test_up_creates_a_stack_with_monitoring(stack: CheckoutCopy) -> None:
    assert up(stack)
    assert architectures(stack) == ["aarch64"] * 6


def test_commands_work_on_the_stack(stack: CheckoutCopy) -> None:
    stack.succeed("seed")
    users = stack.succeed("psql", "--", "--tuples-only", "--command", "SELECT count(*) FROM groundwork.users")
    assert int(users) > 0
    stack.succeed("backup")
    stack.succeed("drill")
    stack.succeed("rotate", "passwords", "app", "--grace", "0", "--yes")
    stack.succeed("doctor")


def test_up_turns_replicas_on(stack: CheckoutCopy) -> None:
    """In qemu a server may need longer than `up` waits to copy the primary. The next `up` resumes."""
    wait_until(lambda: up(stack, postgresReplicas=2, redisReplicas=2), UP_SECONDS)
    assert architectures(stack) == ["aarch64"] * 16
    streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    counts = [psql(stack.identity.name("dev", name), streaming).strip() for name in MEMBERS]
    assert sorted(counts) == ["0", "0", "2"]

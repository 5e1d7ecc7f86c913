"""The lock that a killed Pulumi leaves in the backend: deleted only if that Pulumi has certainly ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError
from ops.stack import pulumi_run, pulumi_stack
from ops.stack.pulumi_run import PulumiRun
from ops.stack.pulumi_stack import PulumiStack
from ops.stack.pulumi_state import LocalState
from ops.toolchain import process

# Stands for Pulumi. Its plugin outlives it, with the same open files. It ends when its standard input is closed.
_PULUMI = """
import subprocess, sys
plugin = subprocess.Popen(["sleep", "600"], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(plugin.pid, flush=True)
sys.stdin.read()
"""


class Stack:
    """A stack's lock, and a Pulumi that groundwork starts."""

    def __init__(self, folder: Path) -> None:
        self.checkout = Checkout(folder, "1a2b3c", folder / "state", folder / "cache")
        self.run = PulumiRun(self.checkout, "dev")
        self.lock = self.checkout.backend_dir / ".pulumi/locks/organization/groundwork/dev/lock.json"
        self.lock.parent.mkdir(parents=True)
        self.record = self.checkout.stack_dir("dev") / "pulumi.json"
        self.plugins: list[int] = []

    def locked_by(self, pid: int, host: str = "", locked_at: float | None = None) -> None:
        self.lock.write_text(json.dumps({"pid": pid, "hostname": host or socket.gethostname()}))
        if locked_at is not None:
            os.utime(self.lock, (locked_at, locked_at))

    def start(self) -> subprocess.Popen[bytes]:
        """Start a Pulumi that has the lock."""
        command = self.run.recorded([sys.executable, "-c", _PULUMI])
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert started.stdout is not None
        self.plugins.append(int(started.stdout.readline()))
        self.locked_by(started.pid)
        return started

    def is_locked(self) -> bool:
        try:
            LocalState(self.checkout, "dev").clear_stale_lock()
        except OpsError as error:
            return error.exit_code is Exit.LOCKED and self.lock.exists()
        return self.lock.exists()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    found = Stack(tmp_path)
    yield found
    for plugin in found.plugins:
        os.kill(plugin, signal.SIGKILL)


def rename_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")


def end(pulumi: subprocess.Popen[bytes]) -> None:
    with pulumi:
        assert pulumi.stdin is not None
        pulumi.stdin.close()


def test_a_lock_of_a_dead_pulumi_is_deleted_after_the_host_was_renamed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next `up` runs in another container, for which the lock is that of another host."""
    end(stack.start())
    rename_host(monkeypatch)
    assert not stack.is_locked()


def test_a_lock_of_a_living_pulumi_is_kept_after_the_host_was_renamed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """groundwork was killed, and Pulumi was not."""
    pulumi = stack.start()
    rename_host(monkeypatch)
    try:
        assert stack.is_locked()
    finally:
        end(pulumi)


@pytest.mark.parametrize("change", ["pid", "host", "time", "kernel", "no record", "damaged record"])
def test_a_lock_that_is_not_certainly_groundworks_own_is_kept(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """It may be that of a plain `pulumi`, or of another machine that uses the same folder."""
    pulumi, host = stack.start(), socket.gethostname()
    end(pulumi)
    started = json.loads(stack.record.read_text())["started"]
    rename_host(monkeypatch)
    match change:
        case "pid":
            stack.locked_by(pulumi.pid + 1, host)
        case "host":
            stack.locked_by(pulumi.pid, "another")
        case "time":
            stack.locked_by(pulumi.pid, host, started + 3600)
        case "kernel":
            monkeypatch.setattr(pulumi_run, "_kernel", lambda: "started again")
        case "no record":
            stack.record.unlink()
        case _:
            stack.record.write_text("[]")
    assert stack.is_locked()


def test_a_kernel_without_an_id_is_not_trusted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi_run, "_kernel", lambda: "")
    end(stack.start())
    rename_host(monkeypatch)
    assert stack.is_locked()


def test_a_second_pulumi_does_not_overwrite_the_record_of_a_living_one(stack: Stack) -> None:
    pulumi = stack.start()
    before = stack.record.read_text()
    try:
        subprocess.run(stack.run.recorded(["true"]), check=True)
        stack.run.forget()
        assert stack.record.read_text() == before
    finally:
        end(pulumi)


def test_a_refusal_names_the_age_the_file_and_how_to_delete_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.stack.pulumi_state.time.time", lambda: 1_700_000_000 + 3 * 3600)
    stack.locked_by(4242, "3f2a", 1_700_000_000)
    with pytest.raises(OpsError) as refused:
        LocalState(stack.checkout, "dev").clear_stale_lock()
    assert str(refused.value) == (
        "stack 'dev' is being changed by process 4242 on 3f2a since 2023-11-14 22:13 UTC (180 min); wait until it has"
        f" finished; if you are sure that it is gone, delete its lock {stack.lock}: run"
        ' `eval "$(.venv/bin/groundwork shellenv --stack dev)"` and `pulumi cancel --yes`'
    )


def test_a_lock_of_this_host_depends_on_its_process(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "is_running", lambda pid, name: True)
    stack.locked_by(4242)
    assert stack.is_locked()
    monkeypatch.setattr(process, "is_running", lambda pid, name: False)
    assert not stack.is_locked()


def test_a_run_is_recorded_until_it_has_ended(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stack.checkout.root
    (folder / "pulumi").write_text(f"#!/bin/sh\necho $$ > {folder}/pid; cp {stack.record} {folder}/seen\n")
    (folder / "pulumi").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setattr(pulumi_stack, "environment", lambda _: {"PATH": path})
    assert PulumiStack(stack.checkout, "dev")._stream("up") == 0
    assert json.loads((folder / "seen").read_text())["pid"] == int((folder / "pid").read_text())
    assert stack.record.read_text() == ""

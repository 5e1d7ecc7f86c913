"""The language host as the engine uses it: a process with a gRPC interface."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="the infra extra is not installed")
from google.protobuf import empty_pb2, struct_pb2  # noqa: E402
from pulumi.runtime.proto import language_pb2, language_pb2_grpc  # noqa: E402

from tests.promises import promise  # noqa: E402

# Replaces the SDK's script: it runs its last argument, the program.
EXECUTOR = """
import runpy, sys
runpy.run_path(sys.argv[-1], run_name="__main__")
"""


class Host:
    """A running host. `folder` contains its program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        executor = folder / "executor.py"
        executor.write_text(EXECUTOR)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.toolchain.language_host"]
            + ["--exec", str(executor), "-tracing", "127.0.0.1:9"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PULUMI_HOME": str(folder / "home")},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.call: Any = None
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub: Any = language_pb2_grpc.LanguageRuntimeStub(self.channel)

    def info(self) -> Any:
        return language_pb2.ProgramInfo(
            root_directory=str(self.folder),
            program_directory=str(self.folder),
            entry_point=".",
            options=struct_pb2.Struct(),
        )

    def run(self, program: str, **request: Any) -> Any:
        (self.folder / "__main__.py").write_text(program)
        return self.stub.Run(language_pb2.RunRequest(info=self.info(), **request), timeout=30)

    def end(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=10)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    started = Host(tmp_path)
    yield started
    started.channel.close()
    with started.process as process:
        process.kill()


def test_a_successful_program_is_reported_and_its_output_passed_on(host: Host) -> None:
    answer = host.run("print('from the program')")
    assert (answer.error, answer.bail) == ("", False)
    assert host.end() == ("from the program\n", "")


def test_a_program_that_has_shown_its_error_bails(host: Host) -> None:
    answer = host.run("raise SystemExit(32)")
    assert (answer.error, answer.bail) == ("", True)


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("raise SystemExit(7)", "the program exited with code 7"),
        ("import os; os.kill(os.getpid(), 9)", "the program was terminated by SIGKILL"),
    ],
)
def test_a_failed_program_is_named(host: Host, program: str, error: str) -> None:
    assert host.run(program).error == error


def test_a_program_gets_its_configuration_in_the_environment(host: Host) -> None:
    program = "import os; print(os.environ['PULUMI_CONFIG'], os.environ['PULUMI_CONFIG_SECRET_KEYS'])"
    host.run(program, config={"groundwork:target": "docker"}, configSecretKeys=["groundwork:token"])
    assert host.end()[0] == '{"groundwork:target": "docker"} ["groundwork:token"]\n'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_sigterm_the_host_exits_quietly_and_stops_its_program(host: Host, number: int) -> None:
    running = start_sleeping(host)
    host.process.send_signal(number)
    assert host.process.communicate(timeout=10) == ("", "")
    assert host.process.returncode == 0
    assert not is_alive(running)


def test_cancel_stops_the_program_but_not_the_host(host: Host) -> None:
    running = start_sleeping(host)
    host.stub.Cancel(empty_pb2.Empty(), timeout=10)
    assert not is_alive(running)
    assert host.run("").error == ""


@promise("the language host ends with its engine, even if the engine is killed")
def test_the_host_exits_if_the_engine_is_killed(tmp_path: Path) -> None:
    executor = tmp_path / "executor.py"
    executor.touch()
    command = f"{sys.executable} -P -m ops.toolchain.language_host --exec {executor}"
    engine = subprocess.Popen(
        ["sh", "-c", f"{command} & echo $!; sleep 30"], stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    host = int(engine.stdout.readline())
    assert int(engine.stdout.readline()) > 0
    with engine:
        engine.kill()
    deadline = time.monotonic() + 10
    while is_alive(host) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(host)


def test_a_policy_packs_output_and_exit_code_are_streamed(host: Host) -> None:
    (host.folder / "__main__.py").write_text(
        "import os, sys\nprint('out', sys.argv[1], os.environ['A'])\nprint('err', file=sys.stderr)\nsys.exit(3)\n"
    )
    request = language_pb2.RunPluginRequest(
        info=host.info(), kind="resource", args=["argument"], env=["A=1"], pwd=str(host.folder)
    )
    outputs = {"stdout": b"", "stderr": b"", "exitcode": b""}
    for response in host.stub.RunPlugin(request, timeout=30):
        name = response.WhichOneof("output")
        value = getattr(response, name)
        outputs[name] += value if isinstance(value, bytes) else str(value).encode()
    assert outputs == {"stdout": b"out argument 1\n", "stderr": b"err\n", "exitcode": b"3"}


def test_a_plugin_stops_when_the_engine_ends_the_call(host: Host) -> None:
    (host.folder / "__main__.py").write_text(
        "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(30)\n"
    )
    call = host.stub.RunPlugin(
        language_pb2.RunPluginRequest(info=host.info(), kind="resource", pwd=str(host.folder)), timeout=30
    )
    running = int(next(call).stdout)
    call.cancel()
    deadline = time.monotonic() + 10
    while is_alive(running) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(running)


@promise("only installed plugins are reported, so that no stack waits for another target's plugins")
def test_only_installed_plugins_are_requested(host: Host) -> None:
    """Otherwise the engine would download the AWS plugin for a stack on Docker."""
    request = language_pb2.GetRequiredPackagesRequest(info=host.info())
    assert list(host.stub.GetRequiredPackages(request, timeout=10).packages) == []
    (host.folder / "home" / "plugins" / "resource-docker-v5.2.0").mkdir(parents=True)
    found = host.stub.GetRequiredPackages(request, timeout=10).packages
    assert [(package.name, package.version) for package in found] == [("docker", "v5.2.0")]


def start_sleeping(host: Host) -> int:
    """Start a program that does not exit, and return its process id."""
    pid_file = host.folder / "pid"
    (host.folder / "__main__.py").write_text(
        f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(30)\n"
    )
    # The reference is kept, because a call without one is cancelled.
    host.call = host.stub.Run.future(language_pb2.RunRequest(info=host.info()), timeout=30)
    deadline = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline, "the program did not start"
        time.sleep(0.05)
    return int(pid_file.read_text())


def is_alive(pid: int) -> bool:
    try:
        with Path(f"/proc/{pid}/stat").open() as status:
            return status.read().rsplit(")", 1)[1].split()[0] != "Z"
    # Opened, and deleted before it was read: the second case.
    except (FileNotFoundError, ProcessLookupError):
        return False

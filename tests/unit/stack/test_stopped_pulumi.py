"""A command that runs Pulumi and is stopped lets Pulumi finish what it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops import termination
from ops.termination import supervised
from tests.cases import in_case
from tests.containers import wait_until
from tests.promises import promise

Start = Callable[[], subprocess.Popen[bytes]]
# Like Pulumi, it ends at once when it gets a second SIGINT or SIGTERM.
_PULUMI = f"""#!{sys.executable}
import os, signal, sys, time
def note(number, frame):
    with open("signals", "a") as file:
        print(signal.Signals(number).name, file=file)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
open("started", "w").close()
while not os.path.exists("finish"):
    time.sleep(0.02)
print("cancelled")
sys.exit(1)
"""
_RUN = """
import signal
from pathlib import Path
import click
from infra.spec.checkout import Checkout
from ops import cli
from ops.stack import pulumi_stack
# Ignored if the tests run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
here = Path.cwd()
pulumi_stack.environment = lambda checkout: {"PATH": str(here)}
stack = pulumi_stack.PulumiStack(Checkout(here, "1a2b3c", here / "state", here / "cache"), "dev")
command = click.Command("up", callback=lambda: stack._stream("up"))
cli.cli.main = lambda **_: command.main(args=[], standalone_mode=False)
cli.main()
"""


@promise("an interrupted `make up` resumes where it stopped")
def test_a_signal_reaches_pulumi_once_as_sigint_and_the_command_waits_for_it(tmp_path: Path) -> None:
    """A terminal and `timeout` send a signal to the whole group, and `timeout` also to the command itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        folder = tmp_path / number.name
        folder.mkdir()
        (folder / "pulumi").write_text(_PULUMI)
        (folder / "pulumi").chmod(0o755)
        with (
            in_case(number.name),
            subprocess.Popen(
                [sys.executable, "-c", _RUN],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            wait_until((folder / "started").exists, 180)
            os.killpg(process.pid, number)
            process.send_signal(number)
            wait_until((folder / "signals").exists, 180)
            assert process.poll() is None
            (folder / "finish").touch()
            out, err = process.communicate(timeout=180)
            assert (folder / "signals").read_text() == "SIGINT\n"
            assert out == "cancelled\n"
            assert err.endswith("groundwork: interrupted; run the same command again to resume\n")
            assert process.returncode == 128 + number


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a program. It ends with 0 when it has got two SIGINTs."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", _COUNTING]
        yield lambda: stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0))


def test_a_later_second_signal_is_forwarded_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "_REPEAT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        _stop_twice(start)


def _stop_twice(start: Start) -> None:
    with supervised(start) as process:
        assert process.stdout is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            assert process.stdout.readline() == b"ready\n"
            os.kill(os.getpid(), number)
        assert process.wait() == 0


def test_a_signal_while_the_program_starts_is_forwarded(start: Start) -> None:
    def start_and_stop() -> subprocess.Popen[bytes]:
        process = start()
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(os.getpid(), signal.SIGINT)
        return process

    with pytest.raises(KeyboardInterrupt), supervised(start_and_stop) as process:
        _interrupt_when_ready(process)


def test_a_failed_block_also_waits_for_the_program(start: Start) -> None:
    with pytest.raises(BrokenPipeError), supervised(start) as process:
        _fail_when_ready(process)
    assert process.returncode == 0


def _interrupt_when_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)


def _fail_when_ready(process: subprocess.Popen[bytes]) -> None:
    _interrupt_when_ready(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    raise BrokenPipeError


_COUNTING = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
for _ in range(2):
    print("ready", flush=True)
    signal.sigwait([signal.SIGINT])
"""


def test_an_ignored_sighup_stays_ignored() -> None:
    """`nohup` ignores it."""
    code = """
import os, signal
from ops.termination import terminable
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with terminable():
    os.kill(os.getpid(), signal.SIGHUP)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as stop:
        # subprocess.Popen waits for its program on any other exception, also of a subclass.
        print(type(stop) is KeyboardInterrupt, *stop.args)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"True {int(signal.SIGTERM)}\n"


def test_a_command_whose_terminal_is_gone_still_exits_with_the_code_of_its_signal() -> None:
    code = """
import os, signal
import click
from ops import cli
signal.signal(signal.SIGHUP, signal.SIG_DFL)
command = click.Command("up", callback=lambda: os.kill(os.getpid(), signal.SIGHUP))
cli.cli.main = lambda **_: command.main(args=[], standalone_mode=False)
cli.main()
"""
    ours, terminal = os.openpty()
    os.close(ours)
    with subprocess.Popen([sys.executable, "-c", code], stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        assert process.wait(180) == 128 + signal.SIGHUP

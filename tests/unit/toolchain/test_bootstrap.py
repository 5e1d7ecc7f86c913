"""The bootstrap of the virtual environment: what it refuses, when it does nothing, and how it resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.toolchain import apt, bootstrap
from tests.cases import in_case
from tests.promises import promise

SCRIPT = Path(bootstrap.__file__)
UV = "uv==0.13.9 ; python_version >= '3.11' \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"
LOCK = f"attrs==26.1.0 \\\n    --hash=sha256:22\n{UV}uvicorn==0.54.0 \\\n    --hash=sha256:33\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text(LOCK)
    (tmp_path / "pyproject.toml").write_text("as it was\n")
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> list[str]:
    """The commands that would run, in words. A virtual environment is created as a folder."""
    ran: list[str] = []

    def run(command: list[str], *_: object, can_stop: bool = True) -> None:
        assert can_stop == (command[0] != "apt-get")
        if "venv" in command:
            ran.append("venv")
            (checkout / ".venv").mkdir(exist_ok=True)
        elif command[-1].endswith("groundwork-uv.lock"):
            ran.append("uv")
            (checkout / ".venv" / "bin").mkdir(exist_ok=True)
            (checkout / ".venv" / "bin" / "uv").touch()
        elif "--require-hashes" in command:
            ran.append("lock" if "/bin/uv" in command[0] else "lock by pip")
        elif "--editable" in command:
            ran.append("project")
            (checkout / ".venv" / "bin").mkdir(exist_ok=True)
            (checkout / ".venv" / "bin" / "groundwork").write_text(
                "import sys\nfrom ops.cli import main\nmain()\n"
            )
        else:
            ran.append(" ".join(command))

    monkeypatch.setattr(bootstrap, "run", run)
    return ran


def test_a_first_run_executes_every_step_in_order(checkout: Path, commands: list[str]) -> None:
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "uv", "lock", "project"]


def test_a_second_run_does_nothing_and_prints_nothing(
    checkout: Path, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.main(str(checkout))
    commands.clear()
    capsys.readouterr()
    assert bootstrap.main(str(checkout)) == 0
    assert commands == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("commands")
def test_the_command_imports_the_modules_of_its_checkout(checkout: Path) -> None:
    other = checkout / "other"
    for folder in (checkout, other):
        (folder / "ops").mkdir(parents=True)
        (folder / "ops" / "cli.py").write_text(f"def main(): print({str(folder)!r})")
    bootstrap.main(str(checkout))
    # Idempotent, because an installation may leave the command as it is.
    bootstrap.import_own_modules_first(str(checkout))
    command = checkout / ".venv" / "bin" / "groundwork"
    assert command.read_text().count("sys.path.insert") == 1
    said = subprocess.run(
        [sys.executable, str(command)],
        env=os.environ | {"PYTHONPATH": str(other)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == f"{checkout}\n"


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_is_installed_into_an_intact_environment(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bootstrap.main(str(checkout))
    commands.clear()
    monkeypatch.setattr(bootstrap, "is_sound", lambda *_: True)
    with (checkout / name).open("a") as changed:
        changed.write("# another line\n")
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["uv", "lock", "project"]


@promise("an interrupted `make up` resumes where it stopped")
@pytest.mark.parametrize("cut_off", ["venv", "uv", "lock", "project"])
def test_an_interrupted_run_starts_from_the_beginning(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, cut_off: str
) -> None:
    whole = bootstrap.run

    def run(command: list[str], *rest: object, can_stop: bool = True) -> None:
        whole(command, *rest, can_stop=can_stop)
        if commands[-1] == cut_off:
            raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "run", run)
    assert bootstrap.main(str(checkout)) == 130
    monkeypatch.setattr(bootstrap, "run", whole)
    # Even if it looks intact, because pip fails on the remains of a killed pip.
    monkeypatch.setattr(bootstrap, "is_sound", lambda *_: True)
    commands.clear()
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "uv", "lock", "project"]


def test_a_moved_checkout_gets_a_new_environment(tmp_path: Path, checkout: Path, commands: list[str]) -> None:
    bootstrap.main(str(checkout))
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    checkout.rename(moved)
    commands.clear()
    bootstrap.main(str(moved))
    assert commands[0] == "venv"


def test_the_environment_of_another_checkout_is_not_touched(
    checkout: Path, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.main(str(checkout))
    commands.clear()
    capsys.readouterr()
    worktree = checkout / "worktree"
    worktree.mkdir()
    for name in ("requirements.lock", "pyproject.toml"):
        (worktree / name).write_bytes((checkout / name).read_bytes())
    (worktree / ".venv").symlink_to(checkout / ".venv")
    assert bootstrap.main(str(worktree)) == 1
    assert capsys.readouterr().err == (
        f"groundwork: {worktree}/.venv is a symbolic link to {checkout}/.venv, which is not the environment of this"
        " checkout; remove the link\n"
    )
    assert commands == []
    assert bootstrap.main(str(checkout)) == 0
    assert commands == []


def test_an_environment_of_another_path_is_not_intact(tmp_path: Path) -> None:
    here = Path(sys.prefix)
    assert bootstrap.is_sound(str(here), str(here / "bin" / "python"))
    (tmp_path / ".venv").symlink_to(here)
    elsewhere = str(tmp_path / ".venv")
    assert not bootstrap.is_sound(elsewhere, f"{elsewhere}/bin/python")


# With these, Python represents every byte of a path above 127 as one that the locale does not have.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(
    ("name", "environment"),
    [(b"\xc3\xbc", ASCII), (b"a\xff", ASCII), (b"\xff", {})],
    ids=["UTF-8", "no UTF-8", "no UTF-8 in a UTF-8 locale"],
)
def test_a_path_that_the_locale_cannot_represent_is_refused_in_one_line(
    checkout: Path, name: bytes, environment: dict[str, str]
) -> None:
    script = "import sys; from ops.toolchain import bootstrap; sys.exit(bootstrap.main(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, os.fsencode(checkout) + b"/" + name],
        cwd=SCRIPT.parents[2], env=os.environ | environment, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(b"groundwork: the path of this checkout")
    assert b"set LC_ALL=C.UTF-8" in line


def test_a_path_of_other_characters_is_accepted(checkout: Path, commands: list[str]) -> None:
    bootstrap.check(f"{checkout}/ü", bootstrap.MINIMUM)


@promise("a Python that is too old is refused in one line")
def test_an_old_python_is_refused_in_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(str(checkout), (3, 10, 14)) == 1
    assert capsys.readouterr().err == (
        "groundwork: Python 3.11 or newer is needed, but this is 3.10; "
        "install it, or select it with make PYTHON=/path/to/python3.11\n"
    )


@promise("a checkout in a path with a space is refused in one line")
def test_a_path_with_a_space_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(str(tmp_path / "my projects" / "x")) == 1
    err = capsys.readouterr().err
    assert err.startswith("groundwork: the path of this checkout has a space in it")
    assert err.count("\n") == 1


def test_without_ensurepip_and_root_the_package_is_named(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert bootstrap.main(str(checkout)) == 1
    assert "sudo apt-get install python3." in capsys.readouterr().err
    assert commands == []


def test_as_root_on_debian_ensurepip_is_installed(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/apt-get")
    assert bootstrap.main(str(checkout)) == 0
    assert [command.split()[-1] for command in commands[:2]] == ["update", _venv_package()]
    assert "--no-remove" in commands[1].split()
    assert commands[2:] == ["venv", "uv", "lock", "project"]


@pytest.mark.parametrize("times", [2, 1_000_000])
def test_a_lock_of_apt_is_awaited_for_a_limited_time(
    checkout: Path,
    commands: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    times: int,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/apt-get")
    monkeypatch.setattr(apt, "LOCK_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(apt, "LOCK_SECONDS", 0.3 if times > 2 else 180)
    whole = bootstrap.run
    held = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 123 (apt-get)"

    def run(command: list[str], *rest: object, can_stop: bool = True) -> None:
        whole(command, *rest, can_stop=can_stop)
        if "update" in command and len(commands) <= times:
            raise bootstrap.Failed(command, f"Reading package lists...\n{held}\n")

    monkeypatch.setattr(bootstrap, "run", run)
    assert bootstrap.main(str(checkout)) == (0 if times == 2 else 1)
    err = capsys.readouterr().err
    assert err.count("groundwork: waiting for process 123 (apt-get), which uses apt\n") == 1
    if times == 2:
        assert [command.split()[-1] for command in commands[:3]] == ["update"] * 3
        assert commands[4:] == ["venv", "uv", "lock", "project"]
    else:
        assert err.splitlines()[-1].endswith("run the same command again when that process has ended")
        assert held not in err


def _venv_package() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"


def test_a_failed_installation_shows_the_full_output_of_pip(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def pip(*_: object) -> None:
        bootstrap.run(["sh", "-c", "echo one; echo two >&2; exit 1"], os.open(checkout, os.O_RDONLY))

    monkeypatch.setattr(bootstrap, "make", pip)
    assert bootstrap.main(str(checkout)) == 1
    assert capfd.readouterr().err == (
        "one\ntwo\ngroundwork: `sh -c echo one; echo two >&2; exit 1` failed; its output is above\n"
    )


@pytest.mark.parametrize(("refused", "then"), [("uv", []), ("lock", ["venv"]), ("project", ["venv"])])
def test_if_uv_fails_pip_installs_everything(
    checkout: Path,
    commands: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: str,
    then: list[str],
) -> None:
    """uv's partial installation is removed first, because pip could fail on it."""
    whole = bootstrap.run

    def run(command: list[str], *rest: object, can_stop: bool = True) -> None:
        whole(command, *rest, can_stop=can_stop)
        if commands[-1] == refused and "lock by pip" not in commands:
            raise bootstrap.Failed(command, "resolving\nerror: no wheel\n")

    monkeypatch.setattr(bootstrap, "run", run)
    assert bootstrap.main(str(checkout)) == 0
    assert commands[commands.index(refused) + 1 :] == [*then, "lock by pip", "project"]
    assert "(error: no wheel); using pip" in capsys.readouterr().err


def test_if_uv_installs_elsewhere_pip_installs_everything(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with `target` in the user's uv.toml."""
    whole = bootstrap.run

    def run(command: list[str], *rest: object, can_stop: bool = True) -> None:
        whole(command, *rest, can_stop=can_stop)
        if "lock by pip" not in commands or pip_fails:
            (checkout / ".venv" / "bin" / "groundwork").unlink(missing_ok=True)

    monkeypatch.setattr(bootstrap, "run", run)
    pip_fails = True
    assert bootstrap.main(str(checkout)) == 1
    assert "pip installed groundwork, but not as " in capsys.readouterr().err.splitlines()[-1]
    pip_fails = False
    commands.clear()
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "uv", "lock", "project", "venv", "lock by pip", "project"]
    assert "uv installed outside of .venv" in capsys.readouterr().err


def test_uv_itself_is_installed_with_its_hashes(checkout: Path, commands: list[str]) -> None:
    bootstrap.main(str(checkout))
    assert (checkout / ".venv" / "groundwork-uv.lock").read_text() == UV


def test_uv_uses_pips_configuration(tmp_path: Path) -> None:
    listed = f"""\
:env:.find-links='{tmp_path} /nowhere https://mirror.example/wheels'
:env:.index-url='https://env.example/simple'
global.cert='/etc/company.pem'
global.index-url='https://file.example/simple'
global.disable-pip-version-check='1'
install.trusted-host='\\na.example\\nb.example'
"""
    settings = bootstrap.uv_settings(listed, {"UV_EXTRA_INDEX_URL": "https://own.example", "PATH": "/bin"})
    assert settings is not None
    settings.pop("UV_SYSTEM_CERTS", None)
    assert settings == {
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_DEFAULT_INDEX": "https://env.example/simple",
        "UV_FIND_LINKS": f"{tmp_path},https://mirror.example/wheels",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a.example b.example",
    }


@pytest.mark.parametrize("name", ["keyring-provider", "constraint", "a-setting-of-tomorrow"])
def test_pip_installs_everything_if_its_configuration_does_not_apply_to_uv(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bootstrap, "output", lambda _command: f"global.{name}='x'\n")
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "lock by pip", "project"]


def of_pip_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Use this pip.conf. pip's configuration is read by the pip of this environment."""
    (tmp_path / "pip.conf").write_text(text)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    whole = bootstrap.output
    monkeypatch.setattr(bootstrap, "output", lambda command: whole([sys.executable, *command[1:]]))


@pytest.mark.parametrize(
    ("section", "name"), [("global", "target"), ("install", "prefix"), ("install", "root")]
)
def test_a_pip_conf_that_installs_elsewhere_is_refused_in_one_line(
    tmp_path: Path,
    checkout: Path,
    commands: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    section: str,
    name: str,
) -> None:
    of_pip_conf(tmp_path, monkeypatch, f"[{section}]\n{name} = /opt/x\n")
    assert bootstrap.main(str(checkout)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"groundwork: pip's configuration sets {name} = /opt/x, ")
    assert commands == ["venv"]


def test_settings_without_an_effect_are_accepted(
    tmp_path: Path, checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` overrides `user` and drops variables. Other commands of pip have their own section."""
    of_pip_conf(tmp_path, monkeypatch, "[install]\nuser = true\ntarget =\n[download]\nprefix = /opt/x\n")
    monkeypatch.setenv("PIP_TARGET", "/opt/x")
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "uv", "lock", "project"]


@pytest.mark.parametrize("name", ["requirements.lock", ".venv/groundwork-stamp"])
def test_a_file_that_cannot_be_accessed_is_named_in_one_line(
    checkout: Path, commands: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (checkout / name).unlink(missing_ok=True)
    (checkout / name).mkdir(parents=True)
    assert bootstrap.main(str(checkout)) == 1
    assert capsys.readouterr().err == (
        f"groundwork: cannot access {checkout / name}: Is a directory; "
        "fix the cause and run the same command again\n"
    )


def test_user_in_a_pip_conf_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_pip_conf(tmp_path, monkeypatch, "[install]\nuser = true\n")
    monkeypatch.setenv("PIP_USER", "")
    command = [*bootstrap.pip_install(sys.executable), "--no-index", "no-such-package-of-groundwork"]
    lock = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(bootstrap.Failed) as failed:
            bootstrap.run(command, lock)
    finally:
        os.close(lock)
    assert "--user" not in failed.value.output
    assert "No matching distribution" in failed.value.output


def test_variables_of_pip_that_install_elsewhere_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ("PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT", "PIP_TARGET", "PIP_DRY_RUN")
    for name in (*elsewhere, "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "UV_CONSTRAINT"):
        monkeypatch.setenv(name, "/opt/x")
    seen: list[str] = []
    lock = os.open(os.devnull, os.O_RDONLY)
    try:
        bootstrap.run(["env"], lock, seen.append)
    finally:
        os.close(lock)
    assert not any("/opt/x" in line for line in seen)
    # Otherwise uv would not be used, because it has no such setting.
    assert "/opt/x" not in str(bootstrap.output([sys.executable, "-m", "pip", "config", "list"]))


def test_a_uv_that_pip_did_not_install_is_reported(
    checkout: Path,
    commands: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = bootstrap.run

    def run(command: list[str], *rest: object, can_stop: bool = True) -> None:
        whole(command, *rest, can_stop=can_stop)
        (checkout / ".venv" / "bin" / "uv").unlink(missing_ok=True)

    monkeypatch.setattr(bootstrap, "run", run)
    assert bootstrap.main(str(checkout)) == 1
    assert "pip installed uv, but not as " in capsys.readouterr().err.splitlines()[-1]
    assert commands == ["venv", "uv"]


def test_a_long_installation_shows_what_it_is_doing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "PLAIN_INTERVAL_SECONDS", 0.01)
    told = ""
    with bootstrap.InstallProgress() as progress:
        progress.on_line("Collecting attrs==26.1.0 (from -r requirements.lock (line 3))\n")
        while "Collecting" not in told:
            time.sleep(0.01)
            told += capsys.readouterr().err
    assert "groundwork: creating .venv, 0 s: Collecting attrs==26.1.0\n" in told


def test_a_second_run_waits_for_processes_that_a_killed_one_left_running(
    checkout: Path, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with bootstrap.OnlyOne(str(checkout)) as lock:
        orphan = subprocess.Popen(["sleep", "1"], pass_fds=[lock])
    assert bootstrap.main(str(checkout)) == 0
    assert orphan.poll() == 0
    assert "waiting for another run" in capsys.readouterr().err
    orphan.wait()


def test_it_needs_only_the_standard_library(tmp_path: Path) -> None:
    copied = tmp_path / "a b" / "ops" / "toolchain" / "bootstrap.py"
    copied.parent.mkdir(parents=True)
    copied.write_text(SCRIPT.read_text())
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(copied)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "has a space in it" in ended.stderr


def test_the_output_of_an_installer_is_escaped() -> None:
    """A package index chooses some of it."""
    seen: list[str] = []
    code = r"print('a\x1b[2J\u202e'); raise SystemExit(1)"
    lock = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(bootstrap.Failed) as failed:
            bootstrap.run([sys.executable, "-X", "utf8", "-c", code], lock, seen.append)
    finally:
        os.close(lock)
    assert failed.value.output == "a\\u001b[2J\\u202e\n"
    assert seen == [failed.value.output]


def test_a_stopped_bootstrap_lets_apt_finish_and_ends_pip(tmp_path: Path) -> None:
    """An interrupted apt-get leaves packages half configured. Ctrl-C reaches every process of a terminal's group."""
    program = "echo on; while [ ! -e finish ]; do sleep 0.05; done; touch whole"
    run = f"""
import os, signal
from ops.termination import exit_code, terminable
from ops.toolchain import bootstrap
apt = bool(int(os.environ["APT"]))
try:
    with terminable():
        bootstrap.run(["sh", "-c", {program!r}], 1, lambda line: print(line, end="", flush=True), can_stop=not apt)
except KeyboardInterrupt as stop:
    os._exit(exit_code(stop))
"""
    for number in (signal.SIGINT, signal.SIGTERM):
        for is_apt in (True, False):
            folder = tmp_path / f"{number.name}-{is_apt}"
            folder.mkdir()
            with (
                in_case((number.name, is_apt)),
                subprocess.Popen(
                    [sys.executable, "-c", run],
                    cwd=folder,
                    env=os.environ | {"APT": str(int(is_apt)), "PYTHONPATH": str(bootstrap.ROOT)},
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                ) as process,
            ):
                assert process.stdout is not None
                assert process.stdout.readline() == "on\n"
                os.killpg(process.pid, number)
                if is_apt:
                    (folder / "finish").touch()
                assert process.wait(180) == 128 + number
                assert (folder / "whole").exists() == is_apt

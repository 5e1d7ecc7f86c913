"""Create `.venv` from requirements.lock. Run by make before anything is installed: standard library only.

If `.venv` matches the lock, this takes a few milliseconds. After an interruption, the next run resumes. The file
parses on Python 3.7 and newer, so that it can reject old versions with a message.

The lock contains uv, which installs the rest several times faster than pip. pip installs uv, and everything if uv
fails. Hashes are required in both cases.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MINIMUM = (3, 11)
PLAIN_INTERVAL_SECONDS = 15.0


class Refusal(Exception):
    """The environment cannot be created. The message says what to do."""


def main(root: str = ROOT, version: tuple[int, ...] = sys.version_info[:3]) -> int:
    """Create the environment of the checkout `root`. Return 0, or 1 after an error message of one line."""
    # Never let other users write to .venv.
    os.umask(os.umask(0o022) | 0o002)
    try:
        check(root, version)
        stamp = os.path.join(root, ".venv", "groundwork-stamp")
        wanted = fingerprint(root)
        if read(stamp) == wanted:
            return 0
        find_own_modules()
        from ops.termination import terminable

        with terminable(), OnlyOne(root) as lock:
            if read(stamp) != wanted:
                make(root, stamp, wanted, lock)
    except Refusal as refusal:
        if isinstance(refusal, Failed):
            sys.stderr.write(refusal.output)
        print(f"groundwork: {refusal}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        cause = f"{error.strerror}; fix the cause and run the same command again"
        print(f"groundwork: cannot access {error.filename}: {cause}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("groundwork: interrupted; run the same command again to resume", file=sys.stderr)
        find_own_modules()
        from ops.termination import exit_code

        return exit_code(stop)
    return 0


def check(root: str, version: tuple[int, ...]) -> None:
    if version[:2] < MINIMUM:
        raise Refusal(
            f"Python {dotted(MINIMUM)} or newer is needed, but this is {dotted(version)}; "
            "install it, or select it with make PYTHON=/path/to/python3.11"
        )
    if any(character.isspace() for character in root):
        raise Refusal(
            f"the path of this checkout has a space in it ({root!r}), which make and virtual environments "
            "cannot take; move the checkout"
        )
    if any("\udc80" <= character <= "\udcff" for character in root):
        # venv fails, and Python does not find the packages of an environment that exists.
        raise Refusal(
            f"the path of this checkout ({root!r}) has bytes that the locale cannot represent; "
            "set LC_ALL=C.UTF-8 if its name is UTF-8, or move the checkout"
        )


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version[:2]))


def fingerprint(root: str) -> str:
    """Return a digest of what `.venv` depends on: lock, project, Python, and its path, which its scripts contain."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as opened:
            digest.update(hashlib.sha256(opened.read()).digest())
    digest.update(f"{sys.version} {root}".encode())
    return digest.hexdigest() + "\n" + root + "\n"


def read(stamp: str) -> str:
    try:
        with open(stamp, encoding="utf-8") as opened:
            return opened.read()
    except OSError:
        return ""


class OnlyOne:
    """A lock on the checkout, so that two makes at once do not install into one folder.

    Started programs inherit the lock, because pip keeps writing after a killed run.
    """

    def __init__(self, root: str) -> None:
        self.folder = os.open(root, os.O_RDONLY)

    def __enter__(self) -> int:
        try:
            fcntl.flock(self.folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("groundwork: waiting for another run that creates .venv", file=sys.stderr)
            fcntl.flock(self.folder, fcntl.LOCK_EX)
        return self.folder

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)


class InstallProgress:
    """Show the current step of the installation and its duration: live on a terminal, otherwise every 15 s."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.doing = "creating the virtual environment"
        self.is_terminal = sys.stderr.isatty()
        self.over = threading.Event()
        self.reporter = threading.Thread(target=self.report, daemon=True)

    def __enter__(self) -> InstallProgress:
        print("groundwork: creating .venv from requirements.lock", file=sys.stderr)
        self.reporter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.reporter.join()

    def report(self) -> None:
        while not self.over.wait(0.25 if self.is_terminal else PLAIN_INTERVAL_SECONDS):
            line = f"groundwork: creating .venv, {clock(time.monotonic() - self.started)}: {self.doing}"
            if self.is_terminal:
                width = os.get_terminal_size(sys.stderr.fileno()).columns
                sys.stderr.write(f"\r\033[K{line[: max(width - 1, 20)]}")
            else:
                sys.stderr.write(line + "\n")
            sys.stderr.flush()
        if self.is_terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def say(self, line: str) -> None:
        clear = "\r\033[K" if self.is_terminal else ""
        print(f"{clear}groundwork: {line}", file=sys.stderr)

    def on_line(self, line: str) -> None:
        """Show a line of pip's or uv's output as the current step."""
        self.doing = line.split(" (from")[0].strip() or self.doing


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def make(root: str, stamp: str, wanted: str, lock: int) -> None:
    venv = os.path.join(root, ".venv")
    python = os.path.join(venv, "bin", "python")
    if os.path.islink(venv):
        # venv would delete what is in the folder, which may be the environment of another checkout, and then fail.
        raise Refusal(
            f"{venv} is a symbolic link to {os.path.realpath(venv)}, which is not the environment of this checkout;"
            " remove the link"
        )
    # Without a stamp the installation was interrupted, and pip cannot resume it.
    is_whole = os.path.exists(stamp) and is_sound(venv, python)
    if os.path.exists(stamp):
        os.unlink(stamp)
    try:
        with InstallProgress() as progress:
            if not is_whole:
                make_venv(venv, lock, progress)
            progress.doing = "reading pip's configuration"
            listed = output([python, "-m", "pip", "--disable-pip-version-check", "config", "list"]) or ""
            check_pip(listed)
            if not install_by_uv(root, python, listed, lock, progress):
                install_by_pip(root, python, lock, progress)
            if not os.path.exists(launcher(root)):
                raise Refusal(
                    f"pip installed groundwork, but not as {launcher(root)}; check pip's configuration"
                    f" (`{python} -m pip config list`)"
                )
            import_own_modules_first(root)
            # Written last and atomically, so that an interrupted installation is repeated.
            draft = stamp + ".draft"
            with open(draft, "w", encoding="utf-8") as opened:
                opened.write(wanted)
            os.replace(draft, stamp)
    except OSError as error:
        raise Refusal(
            f"cannot create {venv}: {error.strerror or error}; "
            "it needs 1 GB of free space; fix the cause and run the same command again"
        ) from error
    took = clock(time.monotonic() - progress.started)
    print(f"groundwork: created .venv from requirements.lock in {took}", file=sys.stderr)


def install_by_pip(root: str, python: str, lock: int, progress: InstallProgress) -> None:
    """Install the lock and the project. Modules are compiled at their first import, because few are ever imported."""
    pip = pip_install(python)
    run(pip + ["--require-hashes", "-r", os.path.join(root, "requirements.lock")], lock, progress.on_line)
    run(pip + ["--no-deps", "--no-build-isolation", "--editable", root], lock, progress.on_line)


def install_by_uv(root: str, python: str, listed: str, lock: int, progress: InstallProgress) -> bool:
    """Install uv with pip, and the rest with uv. If that fails, print the reason and return False.

    `listed` is pip's configuration (`pip config list`).
    """
    requirements = os.path.join(root, "requirements.lock")
    uv_lock = os.path.join(root, ".venv", "groundwork-uv.lock")
    with open(requirements, encoding="utf-8") as opened:
        found = re.search(r"^uv==(?:.*\\\n)*.*\n", opened.read(), re.MULTILINE)
    if found is None:
        return False
    with open(uv_lock, "w", encoding="utf-8") as opened:
        opened.write(found.group())
    progress.doing = "installing uv"
    settings = uv_settings(listed, dict(os.environ))
    if settings is None:
        return False
    only_wheels = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "-r", uv_lock]
    uv = [os.path.join(root, ".venv", "bin", "uv"), "pip", "install", "--python", python]
    try:
        run(pip_install(python) + only_wheels, lock, progress.on_line)
    except Failed as failed:
        progress.say(f"pip cannot install uv ({failed.last_line()}); using pip for everything")
        return False
    if not os.path.exists(uv[0]):
        raise Refusal(
            f"pip installed uv, but not as {uv[0]}; check pip's configuration (`{python} -m pip config list`)"
        )
    try:
        run(uv + ["--require-hashes", "-r", requirements], lock, progress.on_line, settings)
        run(uv + ["--no-deps", "--no-build-isolation", "--editable", root], lock, progress.on_line, settings)
    except Failed as failed:
        progress.say(f"uv cannot install requirements.lock ({failed.last_line()}); using pip")
    else:
        if os.path.exists(launcher(root)):
            return True
        progress.say("uv installed outside of .venv, as its configuration says (uv.toml); using pip")
    # A partial installation by uv could make pip fail.
    make_venv(os.path.join(root, ".venv"), lock, progress)
    return False


def launcher(root: str) -> str:
    """Return the path of the command `groundwork` in `.venv`."""
    return os.path.join(root, ".venv", "bin", "groundwork")


def import_own_modules_first(root: str) -> None:
    """Let the command `groundwork` import the modules of this checkout, whatever the folders of PYTHONPATH contain."""
    statement = f"sys.path.insert(0, {root!r})\n"
    with open(launcher(root), encoding="utf-8") as opened:
        script = opened.read()
    if statement not in script:
        with open(launcher(root), "w", encoding="utf-8") as opened:
            opened.write(script.replace("from ops.cli import", f"{statement}from ops.cli import", 1))


def pip_install(python: str) -> list[str]:
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    return pip + ["--no-compile", "--progress-bar", "off"]


def check_pip(listed: str) -> None:
    """Raise Refusal if a pip.conf (`pip config list`) makes pip install into another folder.

    `run` drops the variables of these settings, but nothing overrides a pip.conf.
    """
    find_own_modules()
    from infra.images.pip_environment import ELSEWHERE

    for name, value in pip_settings(listed, ("global.", "install.")).items():
        if name in ELSEWHERE and value.strip():
            raise Refusal(
                f"pip's configuration sets {name} = {value}, so that pip installs outside of .venv; remove the setting "
                "(`python3 -m pip config debug` lists the files), or set PIP_CONFIG_FILE=/dev/null for this command"
            )


def pip_settings(listed: str, sections: tuple[str, ...]) -> dict[str, str]:
    """Parse the output of `pip config list`. A later section takes precedence."""
    configured: dict[str, str] = {}
    for section in sections:
        for line in listed.splitlines():
            name, equals, value = line.partition("=")
            if equals and name.startswith(section):
                configured[name[len(section) :]] = str(ast.literal_eval(value))
    return configured


# Settings of pip that do not affect where packages come from, that `run` overrides, or that `check_pip` refuses.
NO_MATTER = [
    "break-system-packages",
    "cache-dir",
    # `pip config list` contains what the file sets.
    "config-file",
    "disable-pip-version-check",
    "dry-run",
    "no-cache-dir",
    "no-color",
    "no-compile",
    "no-input",
    "no-python-version-warning",
    "no-warn-script-location",
    "prefer-binary",
    "prefix",
    "progress-bar",
    "python",
    "quiet",
    "require-hashes",
    "require-virtualenv",
    "root",
    "root-user-action",
    "target",
    "upgrade",
    "user",
    "verbose",
]
AS_UV_SAYS = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "no-index": "UV_NO_INDEX",
    "proxy": "ALL_PROXY",
    "retries": "UV_HTTP_RETRIES",
    "timeout": "UV_HTTP_TIMEOUT",
    "trusted-host": "UV_INSECURE_HOST",
}


def uv_settings(listed: str, env: dict[str, str]) -> dict[str, str] | None:
    """Translate pip's configuration (`pip config list`) into environment variables of uv, which does not read it.

    Return None if pip has a setting that uv has no variable for. The user's own settings for uv take precedence.
    """
    configured = pip_settings(listed, ("global.", "install.", ":env:."))
    settings = {"UV_SYSTEM_CERTS": "true"} if has_certificates() else {}
    # Query all indexes, as pip does. The lock has every hash, so no index can substitute a package.
    settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    for bundle in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        if env.get(bundle):
            settings["SSL_CERT_FILE"] = env[bundle]
    for name, value in configured.items():
        if name in NO_MATTER or not value.strip():
            continue
        if name not in AS_UV_SAYS:
            return None
        words = value.split()
        if name == "find-links":
            words = [word for word in words if "://" in word or os.path.isdir(word)]
        if name == "no-index" and value.lower() in ("0", "false", "no", "off"):
            words = []
        if words:
            settings[AS_UV_SAYS[name]] = (",".join if name == "find-links" else " ".join)(words)
    if "ALL_PROXY" in settings:
        settings["HTTP_PROXY"] = settings["HTTPS_PROXY"] = settings["ALL_PROXY"]
    return {name: value for name, value in settings.items() if not env.get(name)}


def has_certificates() -> bool:
    """Return whether this machine has its own certificates, for example a company's; uv contains the public ones."""
    import ssl

    paths = ssl.get_default_verify_paths()
    return paths.cafile is not None or os.path.exists("/etc/ssl/certs/ca-certificates.crt")


def output(command: list[str]) -> str | None:
    """Return the standard output of a program in the environment of `run`, or None if the program fails."""
    find_own_modules()
    from infra.images.pip_environment import pip_environment

    try:
        return subprocess.run(
            command, env=pip_environment(), capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def is_sound(venv: str, python: str) -> bool:
    """Return whether a virtual environment can be reused: created here, by this Python, with a working pip."""
    question = "import pip, sys; print(sys.prefix, sys.version, sep='\\n')"
    try:
        said = subprocess.run(
            [python, "-c", question], capture_output=True, text=True, timeout=60, check=True
        )
        with open(os.path.join(venv, "bin", "pip"), encoding="utf-8") as script:
            # The first line of a script contains the interpreter's path, which reveals a moved checkout.
            is_here = python in script.read(4096)
    except (OSError, subprocess.SubprocessError):
        return False
    return is_here and said.stdout == f"{venv}\n{sys.version}\n"


def make_venv(venv: str, lock: int, progress: InstallProgress) -> None:
    import importlib.util

    if importlib.util.find_spec("ensurepip") is None:
        install_ensurepip(lock, progress)
    # The original Python. An environment created from another environment's Python would depend on that one.
    base = getattr(sys, "_base_executable", sys.executable)
    run([base, "-m", "venv", "--clear", venv], lock)


def install_ensurepip(lock: int, progress: InstallProgress) -> None:
    """Install ensurepip, which Debian ships in a separate package."""
    import shutil

    package = f"python{dotted(sys.version_info[:2])}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Refusal(
            f"this Python ({sys.executable}) cannot create virtual environments; "
            f"install its venv module (on Debian: sudo apt-get install {package})"
        )
    find_own_modules()
    from ops.toolchain import apt

    run_apt(list(apt.UPDATE), [], lock, progress)
    run_apt(list(apt.INSTALL) + [package], [package], lock, progress)


def run_apt(command: list[str], packages: list[str], lock: int, progress: InstallProgress) -> None:
    """Run apt-get, and repeat it while another process holds a lock that it needs. Raises Refusal."""
    from ops.toolchain import apt

    wait = apt.LockWait(lambda holder: progress.say(f"waiting for {holder}, which uses apt"))
    while True:
        try:
            run(command, lock, progress.on_line, apt.ENVIRONMENT, can_stop=False)
            return
        except Failed as failed:
            lines = failed.output.splitlines()
            if not wait.should_repeat(lines):
                explained = apt.explain(lines, packages)
                if explained is None:
                    raise
                raise Refusal(explained) from failed
        time.sleep(apt.LOCK_PAUSE_SECONDS)


def find_own_modules() -> None:
    """Make this checkout's modules importable. Not at the top, so that an old version of Python is rejected first."""
    if ROOT not in sys.path:
        sys.path.append(ROOT)


class Failed(Refusal):
    """A program failed. `output` is everything that it printed."""

    def __init__(self, command: list[str], output: str) -> None:
        super().__init__(f"`{' '.join(command[:4])}` failed; its output is above")
        self.output = output

    def last_line(self) -> str:
        return (self.output.strip().splitlines() or ["no reason given"])[-1].strip()


def run(
    command: list[str],
    lock: int,
    on_line: Callable[[str], None] = lambda line: None,
    settings: dict[str, str] | None = None,
    *,
    can_stop: bool = True,
) -> None:
    """Run a program with the user's pip configuration and proxies. Pass its lines to `on_line`. Raises Failed.

    Ctrl-C ends the program. With can_stop=False it may finish first: an interrupted apt-get leaves packages half
    configured.
    """
    find_own_modules()
    from infra.images.pip_environment import pip_environment
    from ops.printable import escaped

    said = []
    with subprocess.Popen(
        command,
        env={**pip_environment(), **(settings or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[lock],
        start_new_session=not can_stop,
    ) as started:
        try:
            for line in started.stdout or ():
                # A package index can send escape sequences.
                line = escaped(line, "\n\t")
                said.append(line)
                on_line(line)
        except BaseException:
            # After Ctrl-C too, because nothing shows the output any more.
            if can_stop:
                started.kill()
            else:
                started.communicate()
            raise
    if started.returncode != 0:
        raise Failed(command, "".join(said))


if __name__ == "__main__":
    sys.exit(main())

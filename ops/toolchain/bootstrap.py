"""Makes `.venv` from requirements.lock, before anything is installed: standard library only, run by make.

Does nothing, in a few milliseconds, where `.venv` is what the lock asks for. Interrupted anywhere, the next
run goes on. It parses on Pythons from 3.7, to refuse the old ones in words.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MINIMUM = (3, 11)


class Refusal(Exception):
    """The environment cannot be made; the message says what to do."""


def main(root: str = ROOT, version: tuple[int, ...] = sys.version_info[:3]) -> int:
    """Make the environment of the checkout `root`; 0 where it is in place, 1 with one line where it cannot be."""
    try:
        check(root, version)
        stamp = os.path.join(root, ".venv", "groundwork-stamp")
        wanted = fingerprint(root)
        if read(stamp) == wanted:
            return 0
        with OnlyOne(root) as lock:
            if read(stamp) != wanted:
                make(root, stamp, wanted, lock)
    except Refusal as refusal:
        print(f"groundwork: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("groundwork: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def check(root: str, version: tuple[int, ...]) -> None:
    if version[:2] < MINIMUM:
        raise Refusal(
            f"Python {dotted(MINIMUM)} or newer is needed, this is {dotted(version)}; "
            "install it, or name one: make PYTHON=/path/to/python3.11"
        )
    if any(character.isspace() for character in root):
        raise Refusal(
            f"the path of this checkout has a space in it ({root!r}), which make and virtual environments "
            "cannot take; move the checkout"
        )


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version[:2]))


def fingerprint(root: str) -> str:
    """What `.venv` must have been made from: lock, project, Python, place (its scripts carry the path)."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as opened:
            digest.update(hashlib.sha256(opened.read()).digest())
    digest.update(f"{sys.version} {root}".encode())
    return digest.hexdigest() + "\n" + root + "\n"


def read(stamp: str) -> str:
    try:
        with open(stamp) as opened:
            return opened.read()
    except OSError:
        return ""


class OnlyOne:
    """A lock on the checkout: two makes at once must not install into one folder.

    Programs that are started get it handed on: a killed run's pip goes on writing, and is waited for.
    """

    def __init__(self, root: str) -> None:
        self.folder = os.open(root, os.O_RDONLY)

    def __enter__(self) -> int:
        try:
            fcntl.flock(self.folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("groundwork: waiting for another run that makes .venv", file=sys.stderr)
            fcntl.flock(self.folder, fcntl.LOCK_EX)
        return self.folder

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)


def make(root: str, stamp: str, wanted: str, lock: int) -> None:
    venv = os.path.join(root, ".venv")
    python = os.path.join(venv, "bin", "python")
    started = time.monotonic()
    # Without its stamp an environment was cut off in the midst of an installation, where pip cannot go on.
    is_whole = os.path.exists(stamp) and is_sound(venv, python)
    if os.path.exists(stamp):
        os.unlink(stamp)
    print("groundwork: making .venv from requirements.lock (about a minute) ...", end=" ", flush=True)
    try:
        if not is_whole:
            make_venv(venv, lock)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
        run(pip + ["--require-hashes", "-r", os.path.join(root, "requirements.lock")], lock)
        run(pip + ["--no-deps", "--no-build-isolation", "--editable", root], lock)
        # Last, and in one step: whatever was cut off before this is done again.
        draft = stamp + ".draft"
        with open(draft, "w") as opened:
            opened.write(wanted)
        os.replace(draft, stamp)
    except OSError as error:
        print()
        raise Refusal(
            f"making {venv} failed: {error.strerror or error}; "
            "it needs 1 GB, make room there and run the same command again"
        ) from error
    except KeyboardInterrupt:
        print()
        raise
    print(f"done in {time.monotonic() - started:.0f} s")


def is_sound(venv: str, python: str) -> bool:
    """Whether a virtual environment can be installed into: made here, by this Python, with a pip that runs."""
    question = "import pip, sys; print(sys.prefix, sys.version, sep='\\n')"
    try:
        said = subprocess.run(
            [python, "-c", question], capture_output=True, text=True, timeout=60, check=True
        )
        with open(os.path.join(venv, "bin", "pip")) as script:
            # The first line of a script names the interpreter by its path: a moved checkout shows here.
            is_here = python in script.read(4096)
    except (OSError, subprocess.SubprocessError):
        return False
    return is_here and said.stdout == f"{venv}\n{sys.version}\n"


def make_venv(venv: str, lock: int) -> None:
    import importlib.util

    if importlib.util.find_spec("ensurepip") is None:
        install_ensurepip(lock)
    # The Python a virtual environment stands on: one made from another one's python would break with it.
    base = getattr(sys, "_base_executable", sys.executable)
    run([base, "-m", "venv", "--clear", venv], lock)


def install_ensurepip(lock: int) -> None:
    """Debian takes ensurepip out of its Python and puts it into a package of its own."""
    import shutil

    package = f"python{dotted(sys.version_info[:2])}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Refusal(
            f"this Python ({sys.executable}) cannot make virtual environments; "
            f"install its venv module (Debian: sudo apt-get install {package})"
        )
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    apt = ["apt-get", "-y", "-qq", "-o", "DPkg::Lock::Timeout=180"]
    run(apt + ["update"], lock)
    run(apt + ["install", "--no-install-recommends", package], lock)


def run(command: list[str], lock: int) -> None:
    """Run a program in silence; all it said, if it fails. pip's configuration and proxies are the user's."""
    # What would send an installation elsewhere than into the virtual environment.
    dropped = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    ended = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        pass_fds=[lock],
    )
    if ended.returncode != 0:
        print()
        sys.stderr.write(ended.stdout.decode(errors="replace"))
        sys.stderr.flush()
        raise Refusal(f"`{' '.join(command[:4])}` failed with what is printed above")


if __name__ == "__main__":
    sys.exit(main())

"""A copy of this checkout in another folder, with its own state, names and ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from infra.spec.checkout import Checkout
from tests.infra.killing import kill_all

ROOT = Path(__file__).parents[2]
_COPIED = ("infra", "db", "cache", "ops", "Pulumi.yaml", "Pulumi.dev.yaml", "pyproject.toml")


@dataclass(frozen=True)
class CheckoutCopy:
    """The copy's folder and state folder. It runs with the packages of this `.venv`."""

    root: Path
    state: Path

    @classmethod
    def copy_to(cls, folder: Path) -> CheckoutCopy:
        root = folder / "clone"
        root.mkdir()
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                # Includes bytecode, so that the first command in the copy does not compile everything.
                shutil.copytree(source, root / name)
            else:
                shutil.copy2(source, root / name)
        (root / ".venv").symlink_to(ROOT / ".venv")
        return cls(root, folder / "state")

    @classmethod
    @contextmanager
    def temporary(cls, folder: Path) -> Iterator[CheckoutCopy]:
        """Yield a copy whose stack and data are removed at the end."""
        copy = cls.copy_to(folder)
        copy.settings()
        try:
            yield copy
        finally:
            if copy.leftovers():
                copy.settings()
                copy.run("down", "--volumes", "--yes")

    @property
    def identity(self) -> Checkout:
        found = Checkout.here(self.root)
        return Checkout(found.root, found.key, self.state / f"{found.root.name}-{found.key}", found.cache_dir)

    def settings(self, **values: object) -> None:
        """Overwrite the dev stack's settings file."""
        config = {"groundwork:target": "docker", "groundwork:postgresMemory": "256MB"}
        config |= {f"groundwork:{key}": value for key, value in values.items()}
        (self.root / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": config}))

    def environment(self) -> dict[str, str]:
        # Takes precedence over the editable install, which points to the original.
        return os.environ | {"PYTHONPATH": str(self.root), "GROUNDWORK_STATE": str(self.state)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a groundwork command in its own process group, so that the whole group can be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "ops.cli", *arguments],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, timeout_seconds: float = 550) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            kill_all(process, self._mark)
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run_until(self, moment: str, *arguments: str, says_on_stderr: bool = False) -> None:
        """Run a command until a line of its output contains `moment`, then SIGKILL it and its child processes."""
        process = self.start(*arguments)
        output = process.stderr if says_on_stderr else process.stdout
        assert output is not None
        said = []
        for line in output:
            said.append(line)
            if moment in line:
                break
        else:
            _, error = process.communicate()
            raise AssertionError(f"the command ended before it could be killed:\n{''.join(said)}\n{error}")
        kill_all(process, self._mark)

    @property
    def _mark(self) -> str:
        """Return the environment entry that identifies the processes of this checkout."""
        return f"GROUNDWORK_STATE={self.state}"

    def plain_pulumi(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command after `eval "$(.venv/bin/groundwork shellenv)"`."""
        shellenv = f'eval "$({sys.executable} -m ops.cli shellenv)"'
        return subprocess.run(
            ["sh", "-ec", f"{shellenv}\n{command}"],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=550,
        )

    def succeed(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"groundwork {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def leftovers(self) -> list[str]:
        """Return every container, volume and network with this checkout's key in its name."""
        found = []
        for kind, every in (("container", ["--all"]), ("volume", []), ("network", [])):
            column = "{{.Names}}" if kind == "container" else "{{.Name}}"
            command = ["docker", kind, "ls", *every, "--filter", f"name=gw-{self.identity.key}-"]
            done = subprocess.run([*command, "--format", column], capture_output=True, text=True, check=True)
            found += done.stdout.split()
        return found

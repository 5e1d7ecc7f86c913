"""A copy of this checkout in another folder: a world of its own, with its own state, names and ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from infra.spec.world import World
from tests.infra.killing import kill_all

ROOT = Path(__file__).parents[2]
_COPIED = ("infra", "db", "cache", "ops", "Pulumi.yaml", "Pulumi.dev.yaml", "pyproject.toml")


@dataclass(frozen=True)
class Checkout:
    """The copy's folder and where it keeps its state. It runs with the packages of this `.venv`."""

    root: Path
    state: Path

    @classmethod
    def copy_to(cls, folder: Path) -> Checkout:
        root = folder / "clone"
        root.mkdir()
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root / name)
        (root / ".venv").symlink_to(ROOT / ".venv")
        return cls(root, folder / "state")

    @property
    def world(self) -> World:
        world = World.here(self.root)
        return World(world.root, world.key, self.state / f"{world.root.name}-{world.key}", world.cache_dir)

    def settings(self, **values: object) -> None:
        """Write the dev stack's file anew with these settings."""
        config = {"groundwork:target": "docker", "groundwork:postgresMemory": "256MB"}
        config |= {f"groundwork:{key}": value for key, value in values.items()}
        (self.root / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": config}))

    def environment(self) -> dict[str, str]:
        # Before the editable install, which leads to the original.
        return os.environ | {"PYTHONPATH": str(self.root), "GROUNDWORK_STATE": str(self.state)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A groundwork command in a process group of its own, so that all of it can be killed."""
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

    def run(self, *arguments: str, timeout_seconds: float = 300) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout_seconds)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL a started command and all that it started."""
        kill_all(process, f"GROUNDWORK_STATE={self.state}")

    def plain_pulumi(self, command: str) -> subprocess.CompletedProcess[str]:
        """A shell line run as a person would after `eval "$(.venv/bin/groundwork shellenv)"`."""
        shellenv = f'eval "$({sys.executable} -m ops.cli shellenv)"'
        return subprocess.run(
            ["sh", "-ec", f"{shellenv}\n{command}"],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def succeed(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"groundwork {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def leftovers(self) -> list[str]:
        """Every container, volume and network that carries this checkout's key."""
        found = []
        for kind, every in (("container", ["--all"]), ("volume", []), ("network", [])):
            column = "{{.Names}}" if kind == "container" else "{{.Name}}"
            command = ["docker", kind, "ls", *every, "--filter", f"name=gw-{self.world.key}-"]
            done = subprocess.run([*command, "--format", column], capture_output=True, text=True, check=True)
            found += done.stdout.split()
        return found

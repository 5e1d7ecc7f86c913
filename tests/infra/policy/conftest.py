"""The good stack of tests.policy_stack, run by the real engine over a provider that only echoes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.spec.world import World
from ops.toolchain.provision import ensure
from ops.toolchain.pulumi_environment import environment
from tests.infra import echo_provider
from tests.policy_stack import STACK, Stack

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).parent / "program"


@dataclass(frozen=True)
class Engine:
    """Pulumi in a folder of its own, with the rules of `root`."""

    folder: Path
    root: Path = ROOT

    @property
    def pack(self) -> str:
        return str(self.root / "infra" / "policy" / "pack")

    def pulumi(self, stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program that declares `stack`."""
        declared = self.folder / "stack.pickle"
        declared.write_bytes(pickle.dumps(stack))
        path = os.pathsep.join([str(self.folder / "bin"), environment(World.here())["PATH"]])
        own = {
            "PATH": path,
            "PYTHONPATH": os.pathsep.join([str(self.root), str(ROOT)]),
            "PULUMI_BACKEND_URL": f"file://{self.folder}",
            "PULUMI_CONFIG_PASSPHRASE": "of a test",
            "POLICY_STACK": str(declared),
        }
        whole = environment(World.here()) | own
        whole.pop("PULUMI_CONFIG_PASSPHRASE_FILE")
        return subprocess.run(
            ["pulumi", *arguments, "--stack", STACK, "--non-interactive"],
            cwd=self.folder / "program",
            env=whole,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def preview(self, stack: Stack) -> dict[str, Any]:
        done = self.pulumi(stack, "preview", "--json", "--show-sames")
        content = json.loads(done.stdout)
        assert isinstance(content, dict)
        return content

    def with_rules_of(self, root: Path) -> Engine:
        return Engine(self.folder, root)


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine whose stack is not made yet."""
    ensure(World.here())
    folder = tmp_path_factory.mktemp("engine")
    echo_provider.install(folder / "bin")
    shutil.copytree(PROGRAM, folder / "program")
    made = Engine(folder)
    done = subprocess.run(
        ["pulumi", "stack", "init", STACK, "--non-interactive"],
        cwd=folder / "program",
        env=environment(World.here())
        | {"PULUMI_BACKEND_URL": f"file://{folder}", "PULUMI_CONFIG_PASSPHRASE": "of a test"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="package")
def first_preview(engine: Engine) -> dict[str, Any]:
    """Of the good stack, before any of it was made."""
    from tests.policy_stack import good_stack

    return engine.preview(good_stack())


@pytest.fixture(scope="package")
def made(engine: Engine, first_preview: dict[str, Any]) -> Engine:
    """An engine with the good stack, made under the policy pack."""
    from tests.policy_stack import good_stack

    done = engine.pulumi(
        good_stack(), "up", "--yes", "--skip-preview", "--suppress-outputs", "--policy-pack", engine.pack
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "groundwork@v0.1.0" in done.stdout
    return engine

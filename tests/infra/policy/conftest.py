"""The good stack of tests.policy_stack, run by the real engine with the echo provider."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.checkpoint import read_deployment, resources_of
from infra.spec.checkout import Checkout
from ops import cli
from ops.toolchain.provision import ensure
from ops.toolchain.pulumi_environment import environment
from tests.infra import echo_provider
from tests.policy_stack import STACK, Stack, good_stack

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).parent / "program"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Groundwork = Callable[..., Outcome]
Judged = Callable[..., Outcome]


@dataclass(frozen=True)
class Engine:
    """Pulumi in its own folder, with the rules of `root`.

    A preview takes seconds: `previews` caches them for all tests, because no test changes the stack after its creation.
    """

    folder: Path
    root: Path = ROOT
    previews: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    @property
    def pack(self) -> str:
        return str(self.root / "infra" / "policy" / "pack")

    def pulumi(self, stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program that declares `stack`."""
        declared = self.folder / "stack.pickle"
        declared.write_bytes(pickle.dumps(stack))
        path = os.pathsep.join([str(self.folder / "bin"), environment(Checkout.here())["PATH"]])
        own = {
            "PATH": path,
            "PYTHONPATH": os.pathsep.join([str(self.root), str(ROOT)]),
            "PULUMI_BACKEND_URL": f"file://{self.folder}",
            "PULUMI_CONFIG_PASSPHRASE": "of a test",
            "POLICY_STACK": str(declared),
        }
        whole = environment(Checkout.here()) | own
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
        """Return the engine's JSON preview of an `up` of `stack`."""
        key = pickle.dumps(stack)
        if key not in self.previews:
            done = self.pulumi(stack, "preview", "--json", "--show-sames")
            self.previews[key] = json.loads(done.stdout)
        return self.previews[key]

    def resources(self) -> list[dict[str, Any]]:
        """Return what the state holds."""
        state = self.folder / ".pulumi" / "stacks" / "groundwork" / f"{STACK}.json"
        return resources_of(read_deployment(state))

    def with_rules_of(self, root: Path) -> Engine:
        return Engine(self.folder, root)


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Yield an engine whose stack does not exist yet."""
    ensure(Checkout.here())
    folder = tmp_path_factory.mktemp("engine")
    shutil.copytree(PROGRAM, folder / "program")
    made = Engine(folder)
    done = subprocess.run(
        ["pulumi", "stack", "init", STACK, "--non-interactive"],
        cwd=folder / "program",
        env=environment(Checkout.here())
        | {"PULUMI_BACKEND_URL": f"file://{folder}", "PULUMI_CONFIG_PASSPHRASE": "of a test"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with echo_provider.installed(folder / "bin"):
        yield made


@pytest.fixture(scope="package")
def first_preview(engine: Engine) -> dict[str, Any]:
    """Return the preview of the good stack before it is created."""
    return engine.preview(good_stack())


@pytest.fixture(scope="package")
def made(engine: Engine, first_preview: dict[str, Any]) -> Engine:
    """Return the engine after it has created the good stack under the policy pack."""
    done = engine.pulumi(
        good_stack(), "up", "--yes", "--skip-preview", "--suppress-outputs", "--policy-pack", engine.pack
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "groundwork@v0.1.0" in done.stdout
    # The preview before the stack was created is different.
    engine.previews.clear()
    return engine


@pytest.fixture
def groundwork(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Groundwork:
    """Return a function that runs a groundwork command and returns exit code, stdout and stderr."""

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def judged(groundwork: Groundwork, tmp_path: Path) -> Judged:
    """Return a function that runs `groundwork policy KIND` on a preview."""

    def run(kind: str, content: dict[str, Any], *arguments: str) -> Outcome:
        plan = tmp_path / "plan.json"
        plan.write_text(json.dumps(content))
        return groundwork("policy", kind, "--plan", str(plan), *arguments)

    return run

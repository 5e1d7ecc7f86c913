"""The AWS program itself, previewed by the real engine before any of it is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infra.checkout import Checkout
from tests.infra.policy.conftest import ROOT, Engine


@pytest.fixture(scope="module")
def preview_of_production(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `groundwork preview --stack prod --json` writes, in a checkout of its own: stacks' files carry a salt."""
    checkout = Checkout.copy_to(tmp_path_factory.mktemp("production"))
    shutil.copy2(ROOT / "Pulumi.prod.yaml", checkout.root)
    path = os.pathsep.join([str(engine.folder / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "preview", "--stack", "prod", "--json"],
        cwd=checkout.root,
        env=checkout.environment() | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    (checkout.root / "plan.json").write_text(done.stdout)
    return checkout.root / "plan.json"


def judged(command: str, plan: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "policy", command, "--plan", str(plan), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


def test_production_keeps_every_rule_before_it_is_made(preview_of_production: Path) -> None:
    """Nothing is undetermined either: what refers to what is known, though no id is."""
    said = judged("check", preview_of_production)
    assert said["findings"] == []
    # Its secrets are RDS's own: the two rules on others have nothing to look at.
    assert said["applicable"] == said["rules"] - 2
    assert said["resources"] > 100


def test_nothing_is_lost_by_making_it(preview_of_production: Path) -> None:
    assert judged("firewall", preview_of_production)["findings"] == []

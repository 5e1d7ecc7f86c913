"""The alert rules in promtool: they are valid, and each alert fires for its series and for no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.monitoring.configuration import RULES
from tests.containers import build_image
from tests.promises import promise

CASES = Path(__file__).parent / "alerts"


@pytest.fixture(scope="module")
def image(docker_engine: None) -> str:
    return build_image("monitoring")


def promtool(image: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    mounts = (f"--volume={RULES}:/rules:ro", f"--volume={CASES}:/cases:ro")
    return subprocess.run(
        ["docker", "run", "--rm", "--network=none", *mounts, image, "promtool", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_rules_are_valid(image: str) -> None:
    files = [f"/rules/{path.relative_to(RULES)}" for path in RULES.rglob("*.yml")]
    assert files
    done = promtool(image, "check", "rules", "--lint=all", "--lint-fatal", *files)
    assert done.returncode == 0, done.stdout + done.stderr


@promise("each alert fires on its condition, and none fires on a healthy stack")
@pytest.mark.parametrize("case", [path.name for path in sorted(CASES.glob("*.yml"))])
def test_each_alert_fires_on_its_condition(image: str, case: str) -> None:
    done = promtool(image, "test", "rules", f"/cases/{case}")
    assert done.returncode == 0, done.stdout + done.stderr


@promise("each alert fires on its condition, and none fires on a healthy stack", control=True)
def test_a_case_that_expects_what_does_not_happen_fails(image: str, tmp_path: Path) -> None:
    text = (CASES / "services.yml").read_text()
    assert "exp_alerts: []" in text
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text.replace("exp_alerts: []", "exp_alerts: [{exp_labels: {job: none}}]", 1))
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    command = [
        "docker",
        "run",
        "--rm",
        f"--volume={RULES}:/rules:ro",
        f"--volume={tmp_path}:/cases:ro",
        image,
    ]
    done = subprocess.run(
        [*command, "promtool", "test", "rules", "/cases/wrong.yml"], capture_output=True, check=False
    )
    assert done.returncode == 1

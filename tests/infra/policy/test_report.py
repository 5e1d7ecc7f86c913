"""A pull request's comment on what the real engine previews: changes, rules, data that would be lost, no secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ops.errors import Exit
from tests.infra.policy.conftest import ROOT, Engine
from tests.policy_stack import CANARY, STACK, Secret, changed, good_stack, without


def commented(content: dict[str, Any], folder: Path) -> tuple[int, str]:
    """By the commands, as `make pr-report` calls them."""
    preview = folder / "preview.json"
    preview.write_text(json.dumps(content))
    options = ["--preview", f"{STACK}={preview}"]
    for kind in ("check", "firewall"):
        findings = folder / f"{kind}.json"
        judged = _groundwork("policy", kind, "--plan", str(preview), "--json")
        findings.write_text(judged.stdout)
        # A preview that failed is not everything, and is not judged by the rules.
        options += ["--findings", str(findings)] if judged.stdout else []
    done = _groundwork("report", "--markdown", "-", *options)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_change_in_place_is_shown_with_both_values(made: Engine, tmp_path: Path) -> None:
    code, text = commented(
        made.preview(changed(good_stack(), "postgres", instanceClass="db.m7g.xlarge")), tmp_path
    )
    assert code == Exit.FINE, text
    assert f"| `{STACK}` | 1 changed | all hold | nothing is lost |" in text
    assert "- `~` update `postgres` `aws:rds/instance:Instance`" in text
    assert "  - `instanceClass`: `db.m7g.large` → `db.m7g.xlarge`\n" in text


def test_what_nobody_changed_is_no_change(made: Engine, tmp_path: Path) -> None:
    code, text = commented(made.preview(good_stack()), tmp_path)
    assert code == Exit.FINE
    assert f"| `{STACK}` | no change, " in text


def test_a_broken_rule_is_named_and_no_secret_is_shown(made: Engine, tmp_path: Path) -> None:
    stack = changed(good_stack(), "postgres", publiclyAccessible=True, password=Secret(CANARY))
    code, text = commented(made.preview(stack), tmp_path)
    assert code == Exit.MISMATCH, text
    assert "**2 violated** | nothing is lost |" in text
    assert "`RDS.2`" in text
    assert "`publiclyAccessible`: `false` → `true`" in text
    assert "`password`: `(none)` → `[secret]`" in text or "`password`: `[secret]` → `[secret]`" in text
    assert CANARY not in text


def test_a_database_made_anew_is_refused_and_what_the_engine_refuses_is_said(
    made: Engine, tmp_path: Path
) -> None:
    code, text = commented(made.preview(changed(good_stack(), "postgres", engine="mysql")), tmp_path)
    assert code == Exit.REFUSED
    assert "**Refused: data would be lost.**" in text
    assert "`DataLoss.replace`" in text
    # Protected resources end a preview.
    assert "**preview failed**" in text
    assert "failed at `postgres`" in text


def test_a_changed_secret_is_a_change_without_a_value(made: Engine, tmp_path: Path) -> None:
    stack = changed(good_stack(), "token-keys-version", secretString=Secret(f"k2:{CANARY}"))
    _, text = commented(made.preview(stack), tmp_path)
    assert "update `token-keys-version`" in text
    assert CANARY not in text


def test_a_database_that_goes_is_deleted_and_refused(made: Engine, tmp_path: Path) -> None:
    code, text = commented(made.preview(without(good_stack(), "replica")), tmp_path)
    assert code == Exit.REFUSED
    assert "`DataLoss.delete`" in text
    assert "`replica`" in text


def _groundwork(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )

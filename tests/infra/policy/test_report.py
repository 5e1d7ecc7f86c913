"""A pull request's comment on the real engine's preview: changes, rules, data loss, and no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.errors import Exit
from tests.infra.policy.conftest import Engine, Groundwork, Judged
from tests.infra.policy.test_engine import BAD
from tests.policy_stack import CANARY, STACK, good_stack, without

Commented = Callable[[dict[str, Any]], tuple[int, str]]


@pytest.fixture
def commented(groundwork: Groundwork, judged: Judged, tmp_path: Path) -> Commented:
    """Return the comment on a preview and its exit code, from the commands that `make pr-report` runs."""

    def make(content: dict[str, Any]) -> tuple[int, str]:
        preview = tmp_path / "preview.json"
        preview.write_text(json.dumps(content))
        options = ["--preview", f"{STACK}={preview}"]
        for kind in ("check", "firewall"):
            findings = tmp_path / f"{kind}.json"
            findings.write_text(judged(kind, content, "--json").out)
            # A failed preview is incomplete, so the rules do not check it.
            options += ["--findings", str(findings)] if findings.read_text() else []
        done = groundwork("report", "--markdown", "-", *options)
        assert done.err == ""
        return done.code, done.out

    return make


def test_unchanged_stack_is_reported_as_unchanged(made: Engine, commented: Commented) -> None:
    code, text = commented(made.preview(good_stack()))
    assert code == Exit.FINE
    assert f"| `{STACK}` | no change, " in text


def test_violated_rule_and_changes_in_place_are_shown_and_secrets_are_hidden(
    made: Engine, commented: Commented
) -> None:
    code, text = commented(made.preview(BAD))
    assert code == Exit.MISMATCH, text
    assert re.search(rf"\| `{STACK}` \| 3 changed \| \*\*\d violated\*\* \| no loss \|", text), text
    assert "`RDS.2`" in text
    assert "- `~` update `postgres` `aws:rds/instance:Instance`" in text
    assert "  - `instanceClass`: `db.m7g.large` → `db.m7g.xlarge`\n" in text
    assert "`publiclyAccessible`: `false` → `true`" in text
    assert "`password`: `(none)` → `[secret]`" in text or "`password`: `[secret]` → `[secret]`" in text
    assert "update `token-keys-version`" in text
    assert CANARY not in text


def test_deleted_protected_server_is_refused_and_the_engines_error_is_shown(
    made: Engine, commented: Commented
) -> None:
    code, text = commented(made.preview(without(good_stack(), "redis")))
    assert code == Exit.REFUSED
    assert "**Refused: data would be lost.**" in text
    assert "`DataLoss.delete`" in text
    # Protected resources end a preview.
    assert "**preview failed**" in text
    assert "failed at `redis`" in text

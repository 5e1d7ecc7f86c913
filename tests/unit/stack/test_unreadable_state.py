"""The error of a command that reads secrets if Pulumi cannot read the state. Pulumi itself does not run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from ops.errors import OpsError
from ops.stack.pulumi_stack import PulumiStack

ROOT = Path(__file__).parents[3]
STATE = json.dumps({"checkpoint": {"latest": {"resources": [{"type": "t", "id": "c1"}]}}})


@pytest.mark.parametrize(
    ("state", "passphrase", "printed", "reported"),
    [
        ("", "secret", "unexpected end of JSON input", r"dev\.json is damaged; copy dev\.json\.bak over it"),
        (
            STATE[:30],
            "secret",
            "unexpected end of JSON input",
            r"dev\.json is damaged; copy dev\.json\.bak over",
        ),
        (
            STATE,
            None,
            "unable to find either",
            r"passphrase is missing, .* move .* away, .* `groundwork adopt",
        ),
        (STATE, "", "passphrase must be set", r"passphrase does not open stack 'dev'; restore"),
        (STATE, "secret", "incorrect passphrase", r"passphrase does not open stack 'dev'; restore"),
        (STATE, "secret", "no space left on device", "`pulumi stack` failed: no space left on device"),
    ],
)
def test_the_error_names_the_file_and_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    passphrase: str | None,
    printed: str,
    reported: str,
) -> None:
    stack = PulumiStack(Checkout(ROOT, "1a2b3c", tmp_path / "state", tmp_path / "cache"), "dev")
    stack.state_file.parent.mkdir(parents=True)
    stack.state_file.write_text(state)
    if passphrase is not None:
        stack.checkout.passphrase_file.write_text(passphrase)
    failed = subprocess.CompletedProcess([], 255, "", f"{printed}\n")
    monkeypatch.setattr(PulumiStack, "_completed", lambda self, *_, **__: failed)
    with pytest.raises((OpsError, InfraError), match=reported):
        stack.outputs()

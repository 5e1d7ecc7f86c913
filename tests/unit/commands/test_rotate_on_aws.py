"""`groundwork rotate` runs `up`. On AWS only `groundwork up` may do that, after its previews."""

from __future__ import annotations

import pytest

from ops.cli import main
from ops.errors import Exit
from ops.stack.pulumi_stack import PulumiStack


@pytest.mark.parametrize(
    "arguments", [("passwords", "--all", "--yes"), ("certificates", "--yes"), ("status",)]
)
def test_a_rotation_on_aws_is_refused_before_anything_runs(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pulumi.prod.yaml sets target aws, whatever the last `up` exported."""
    monkeypatch.setattr(PulumiStack, "up", lambda *_, **__: pytest.fail("an up"))
    with pytest.raises(SystemExit) as over:
        main(["rotate", *arguments, "--stack", "prod"])
    assert over.value.code == Exit.REFUSED
    said = capfd.readouterr().err
    assert "stack 'prod' is on AWS" in said
    assert said.count("\n") == 1

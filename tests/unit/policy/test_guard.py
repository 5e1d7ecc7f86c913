"""What stands before an `up` on AWS."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from infra.policy.value import UNKNOWN
from ops.errors import Exit, OpsError
from ops.policy.guard import refuse_unsafe_up
from ops.pulumi_stack import PulumiStack
from tests.policy_stack import STACK, changed, good_stack, preview, without


class Previewed:
    """A stack whose preview is given."""

    name = STACK

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def preview_json(self) -> str:
        return json.dumps(self._content)


def guard(content: dict[str, Any]) -> None:
    refuse_unsafe_up(cast(PulumiStack, Previewed(content)))


@pytest.mark.parametrize(
    "new", [good_stack(), changed(good_stack(), "postgres", multiAz=UNKNOWN)], ids=["good", "undetermined"]
)
def test_an_up_that_loses_nothing_may_follow(new: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guard(preview(good_stack(), new))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("new", "code", "says"),
    [
        (without(good_stack(), "redis"), Exit.REFUSED, "would lose data"),
        (changed(good_stack(), "postgres", skipFinalSnapshot=True), Exit.REFUSED, "would lose data"),
        (changed(good_stack(), "postgres", multiAz=False), Exit.MISMATCH, "not be as it has to be"),
    ],
    ids=["deleted", "guard and rule", "rule"],
)
def test_an_up_that_must_not_be_is_refused_before_it_starts(
    new: Any, code: Exit, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OpsError, match=says) as refused:
        guard(preview(good_stack(), new))
    assert refused.value.exit_code is code
    assert "fix:" in capsys.readouterr().err


def test_a_preview_that_failed_lets_no_up_follow() -> None:
    content = preview(good_stack(), good_stack()) | {"diagnostics": [{"severity": "error", "message": "no"}]}
    with pytest.raises(OpsError, match="failed"):
        guard(content)

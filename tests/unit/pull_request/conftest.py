"""Comments created by the command from files, as in production."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops import cli


@dataclass(frozen=True)
class Outcome:
    code: int
    text: str
    error: str


Comment = Callable[..., Outcome]


@pytest.fixture
def comment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Comment:
    """Return `comment({"prod": preview(...)}, [assessment(...)], plan(...))`, which returns text and exit code."""

    def make(
        previews: dict[str, str] | None = None,
        findings: list[str] | None = None,
        plan: str | None = None,
        *options: str,
    ) -> Outcome:
        arguments = ["report", "--markdown", "-", *options]
        for n, (stack, text) in enumerate((previews or {}).items()):
            (tmp_path / f"{n}.preview.json").write_text(text)
            arguments += ["--preview", f"{stack}={tmp_path / f'{n}.preview.json'}"]
        for n, text in enumerate(findings or []):
            (tmp_path / f"{n}.findings.json").write_text(text)
            arguments += ["--findings", str(tmp_path / f"{n}.findings.json")]
        if plan is not None:
            (tmp_path / "plan.json").write_text(plan)
            arguments += ["--plan", str(tmp_path / "plan.json")]
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        said = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), said.out, said.err)

    return make

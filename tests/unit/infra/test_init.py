"""Every container has an init as PID 1: the image's entrypoint, or `--init` if the entrypoint is replaced."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.cases import in_case

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted(ROOT.glob("infra/images/*/Dockerfile"))
# The negative control needs a Postgres without an init.
WITHOUT = ROOT / "tests" / "faults" / "test_orphans.py"


def unprotected(source: str) -> Iterator[int]:
    """Yield the lines of simple statements that replace an image's entrypoint without `--init`."""
    # Parsing every file would take seconds.
    if "--entrypoint" not in source:
        return
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.stmt) and not hasattr(statement, "body"):
            words = {
                str(node.value).split("=")[0]
                for node in ast.walk(statement)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            if "--entrypoint" in words and "--init" not in words:
                yield statement.lineno


def test_image_starts_an_init() -> None:
    assert len(DOCKERFILES) > 5
    for path in DOCKERFILES:
        with in_case(path):
            text = path.read_text()
            assert re.findall(r"^ENTRYPOINT \[(.*)\]$", text, re.MULTILINE)[-1].startswith('"tini", "--"')
            assert re.search(r"install -y --no-install-recommends[^&]*\btini\b", text)


def test_container_with_another_entrypoint_starts_an_init() -> None:
    paths = [path for folder in ("infra", "ops", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = [f"{path}:{line}" for path in paths if path != WITHOUT for line in unprotected(path.read_text())]
    assert found == []
    assert list(unprotected('docker("run", "--entrypoint", "sh", image)')) == [1]

"""The source in the access image is complete, and what is left of the stages of a build can be found."""

from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

from infra.images.context import ACCESS_SOURCES, AWS_SOURCES, IMAGES, STAGE_LABEL

ROOT = Path(__file__).parents[3]
PACKAGES = ("cache", "db", "infra", "ops")


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def missing(imports: grimp.ImportGraph, sources: tuple[str, ...]) -> set[str]:
    """Return the imported modules that the sources do not contain, as "importer -> imported"."""
    held = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for pattern in sources
        for path in ROOT.glob(pattern)
        if path.suffix == ".py"
    }
    return {
        f"{importer} -> {imported}"
        for importer in held
        for imported in imports.find_modules_directly_imported_by(importer) - held
    }


@pytest.mark.parametrize("sources", [ACCESS_SOURCES, (*ACCESS_SOURCES, *AWS_SOURCES)], ids=["docker", "aws"])
def test_no_imported_module_is_missing(imports: grimp.ImportGraph, sources: tuple[str, ...]) -> None:
    assert missing(imports, sources) == set()


def test_a_missing_module_is_found(imports: grimp.ImportGraph) -> None:
    sources = tuple(source for source in ACCESS_SOURCES if source != "ops/errors.py")
    assert "ops.cli -> ops.errors" in missing(imports, sources)


def test_every_stage_but_the_last_has_the_label_that_prune_looks_for() -> None:
    """The last stage must not have it: its containers would inherit the label."""
    stages = {
        path.parent.name: re.split("^FROM ", path.read_text(), flags=re.MULTILINE)[1:]
        for path in IMAGES.glob("*/Dockerfile")
    }
    assert {image for image, found in stages.items() if len(found) > 1} == {"access", "patroni"}
    for image, (*others, last) in stages.items():
        for stage in others:
            instructions = [line for line in stage.splitlines()[1:] if not line.startswith("#")]
            assert instructions[0] == f"LABEL {STAGE_LABEL}=1", image
        assert STAGE_LABEL not in last, image

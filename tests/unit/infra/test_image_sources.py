"""The source in the access image is complete: it contains every module that its modules import."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

from infra.images.context import ACCESS_SOURCES, AWS_SOURCES

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

"""Nothing of groundwork is world-writable, because the cache and .venv contain programs that the user runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from ops.cli import main
from ops.toolchain import bootstrap
from tests.promises import promise


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def run_command() -> None:
    with pytest.raises(SystemExit):
        main(["--version"])


def run_bootstrap() -> None:
    """Run a command that is refused and creates nothing."""
    assert bootstrap.main("/a folder") == 1


@promise("no umask makes the cache or .venv writable by everybody")
@pytest.mark.parametrize("run", [run_command, run_bootstrap])
@pytest.mark.parametrize(
    ("umask", "after"), [(0o000, 0o002), (0o002, 0o002), (0o027, 0o027), (0o077, 0o077)], indirect=["umask"]
)
def test_the_umask_excludes_others_and_keeps_the_users_choice(
    umask: int, after: int, run: Callable[[], None]
) -> None:
    run()
    assert os.umask(umask) == after

"""Look for known vulnerabilities in every locked Python package, with pip-audit.

Needs the JSON API of the Python package index, which not every mirror has. Fails if a package cannot be looked up.
"""

from __future__ import annotations

import subprocess
import sys

from scripts.lock import LOCKS
from scripts.supply_chain import tools


def main() -> int:
    program = str(tools.install() / "pip-audit")
    requirements = [option for lock in LOCKS for option in ("--requirement", lock)]
    done = subprocess.run(
        [program, "--strict", "--disable-pip", "--require-hashes", "--progress-spinner=off", *requirements],
        cwd=tools.ROOT,
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

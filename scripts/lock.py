"""Resolves the dependencies anew, into the lock files that everything is installed from.

`python -m scripts.lock` takes the newest versions that are allowed; `--keep` changes only what has to change.
The locks name versions and hashes and no index: which one is asked is the machine's affair (docs/adr/0004).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# lock -> what it is made from; the peers that `make bench` measures beside have versions that go with ours
LOCKS = {
    "requirements.lock": ["pyproject.toml", "--all-extras"],
    "infra/images/access/requirements.lock": ["pyproject.toml"],
    "infra/images/access/requirements-aws.lock": ["pyproject.toml", "--extra", "aws-access"],
    "tests/bench/requirements.lock": ["tests/bench/requirements.in", "--constraint", "requirements.lock"],
}
# Universal: one lock for Linux and macOS, with markers where they differ.
COMPILE = [
    *("pip", "compile", "--quiet"),
    *("--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-annotate", "--no-header"),
]


def main(arguments: list[str]) -> int:
    upgrade = [] if "--keep" in arguments else ["--upgrade"]
    for lock, sources in LOCKS.items():
        command = [sys.executable, "-m", "uv", *COMPILE, *sources, *upgrade, "--output-file", lock]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            print(f"{lock}: not resolved, and unchanged", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

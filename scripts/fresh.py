"""Render every generated file of the repository.

`python -m scripts.fresh` writes the files. With `--check` it changes nothing, and exits with 1 if a file is stale.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RENDERERS = (
    "scripts.generate_sync",
    "scripts.render_settings",
    "scripts.render_parity",
    "scripts.render_cli",
    "scripts.render_promises",
)


def main(arguments: list[str]) -> int:
    # Run all of them, even if one fails, so that one run reports every problem.
    codes = [
        subprocess.run([sys.executable, "-m", renderer, *arguments], cwd=ROOT, check=False).returncode
        for renderer in RENDERERS
    ]
    if any(codes) and "--check" in arguments:
        print("run `make fix`, and commit what it renders", file=sys.stderr)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

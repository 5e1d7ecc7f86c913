"""Everything in the repository that is rendered from something else: written anew, or checked to be fresh.

`python -m scripts.fresh` writes, `--check` changes nothing and exits 1 where a file is stale.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RENDERERS = ("scripts.generate_sync", "scripts.render_settings", "scripts.render_parity")


def main(arguments: list[str]) -> int:
    # Each as a process of its own, as people run them; all of them, so that one run tells everything.
    codes = [
        subprocess.run([sys.executable, "-m", renderer, *arguments], cwd=ROOT, check=False).returncode
        for renderer in RENDERERS
    ]
    if any(codes) and "--check" in arguments:
        print("run `make fix`, and commit what it renders", file=sys.stderr)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Install the tools in a separate environment, so that the SBOM of .venv does not list them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = ROOT / "build" / "supply-chain"


def install() -> Path:
    """Install the locked tools into build/supply-chain, and return the folder of their programs."""
    python = _ENVIRONMENT / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--allow-existing", str(_ENVIRONMENT)], check=True)
    lock = str(Path(__file__).with_name("requirements.lock"))
    subprocess.run(
        [*uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", lock], check=True
    )
    return python.parent

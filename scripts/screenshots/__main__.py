"""Make the pictures of the README in docs/images: a page of `groundwork report`, and graphs of Prometheus.

Creates a Docker stack with monitoring, sample data and a small application, waits until the graphs have content, and
deletes the stack. Takes about 6 minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

from infra import outputs
from infra.docker.engine import docker
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from ops.errors import OpsError
from ops.stack.pulumi_stack import PulumiStack

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
STACK = "demo"
SETTINGS = """\
config:
  groundwork:monitoring: "true"
  groundwork:monitoringTargets: {web: "web-1:9000"}
"""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WARM_UP_SECONDS = 240
_REPORT_SECONDS = 60
_MAX_BYTES = 200_000
_GRAPHS = (
    'sum by (entity, layer) (rate(groundwork_cache_hits_total{job="web"}[1m])) > 0',
    'sum by (query) (rate(groundwork_db_query_duration_seconds_count{job="web"}[1m]))',
)


def main() -> int:
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return _refuse("no Chromium or Chrome is on PATH; on Debian, install the package chromium")
    settings = ROOT / f"Pulumi.{STACK}.yaml"
    if settings.exists():
        return _refuse(f"{settings.name} exists; remove stack {STACK!r} and this file first")
    settings.write_text(SETTINGS, encoding="utf-8")
    try:
        try:
            _take_all(browser)
        finally:
            _groundwork("down", "--volumes", "--yes")
            settings.unlink()
    except (InfraError, OpsError) as error:
        return _refuse(str(error))
    except subprocess.CalledProcessError as error:
        # It printed its reason.
        return _refuse(f"`groundwork {error.cmd[1]}` failed with exit code {error.returncode}")
    return 0


def _take_all(browser: str) -> None:
    _groundwork("up")
    _groundwork("seed")
    values = PulumiStack(Checkout.here(), STACK).outputs()
    with _application(values[outputs.CONTAINERS]), tempfile.TemporaryDirectory() as folder:
        print(f"screenshots: waiting {_WARM_UP_SECONDS} s until the graphs have content", flush=True)
        time.sleep(_WARM_UP_SECONDS)
        report = Path(folder) / "report.html"
        _groundwork("report", "--html", str(report), "--seconds", str(_REPORT_SECONDS), "--interval", "2")
        _picture(browser, report.as_uri(), IMAGES / "report.png", height=1320)
        _picture(browser, _graphs(values[outputs.PROMETHEUS_URL]), IMAGES / "prometheus.png", height=1640)


def _refuse(reason: str) -> int:
    print(f"screenshots: {reason}", file=sys.stderr)
    return 1


def _groundwork(command: str, *arguments: str) -> None:
    program = str(Path(sys.executable).with_name("groundwork"))
    subprocess.run([program, command, "--stack", STACK, *arguments], cwd=ROOT, check=True)


@contextmanager
def _application(containers: dict[str, str]) -> Iterator[None]:
    """Run the application in the access service's image, with its connection strings."""
    access = containers["access"]
    name = f"{access}-screenshots"
    environment = {
        "DATABASE_URL_FILE": "/run/secrets/groundwork/database_url",
        "REDIS_URL_FILE": "/run/secrets/groundwork/redis_url",
        "PYTHONPATH": "/opt/groundwork/source:/opt/groundwork/site",
        # Less than the records in use, so that Redis is read too.
        "GROUNDWORK_NEAR_CACHE_ENTRIES": "100",
    }
    docker(
        "run", "--detach", "--name", name, "--network", containers["network"], "--network-alias", "web-1",
        "--volumes-from", f"{access}:ro", "--user", docker("inspect", "--format", "{{.Config.User}}", access).strip(),
        *(f"--env={key}={value}" for key, value in environment.items()),
        "--entrypoint", "python3", docker("inspect", "--format", "{{.Image}}", access).strip(),
        "-c", Path(__file__).with_name("application.py").read_text(encoding="utf-8"),
    )  # fmt: skip
    try:
        yield
    finally:
        docker("rm", "--force", name)


def _graphs(prometheus: str) -> str:
    query: dict[str, object] = {}
    for index, expression in enumerate(_GRAPHS):
        query |= {f"g{index}.expr": expression, f"g{index}.tab": 0, f"g{index}.range_input": "4m"}
    # Prometheus's page does not read `+` as a space.
    return f"{prometheus}/classic/graph?{urlencode(query, quote_via=quote)}"


def _picture(browser: str, url: str, path: Path, height: int) -> None:
    """Write a picture of a page's top, 1280 pixels wide. Raises OpsError if the file is too large."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        # Chromium's sandbox does not run as root.
        as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [browser, "--headless", *as_root, "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
             f"--window-size=1280,{height}", "--virtual-time-budget=10000", f"--screenshot={path}", url],
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    if done.returncode:
        raise OpsError(f"{browser} cannot take {path.name}: {done.stderr.strip()[-200:]}")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise OpsError(f"{path.name} has {size} bytes, more than {_MAX_BYTES}; make its window smaller")
    print(f"screenshots: {path.relative_to(ROOT)}, {size // 1000} kB", flush=True)


if __name__ == "__main__":
    sys.exit(main())

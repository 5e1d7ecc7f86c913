"""Images: their labels, refreshes, and failed builds, in the real engine."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from infra.docker.engine import DockerError, docker, inspect, server
from infra.images import proxies
from infra.images.build import PACKAGES_DATE_LABEL, PACKAGES_LABEL, build
from infra.images.context import image_context
from infra.spec.checkout import Checkout
from ops.stack.stack_status import PACKAGES_DAYS, old_packages
from scripts.supply_chain import sbom, tools
from tests.containers import build_image
from tests.promises import promise
from tests.scale import IS_FULL

pytestmark = pytest.mark.usefixtures("docker_engine")

# Installs nothing, so that a test builds it quickly.
SMALL = """
ARG BASE
FROM ${BASE}
ARG REFRESH
RUN date -u +%Y-%m-%dT%H:%M:%S.%NZ > /usr/share/groundwork-packages-date
"""
PASSWORD = "secret-of-the-proxy"


@pytest.fixture
def tag() -> Iterator[str]:
    tag = f"groundwork-test/images:{uuid.uuid4().hex[:8]}"
    yield tag
    if inspect("image", tag):
        docker("image", "rm", tag)


def labels(image: str) -> dict[str, str]:
    (found,) = inspect("image", image)
    return dict(found["Config"]["Labels"])


@promise("an image's labels list its Debian packages and when they were installed")
def test_labels_list_the_packages_of_the_image_and_their_date() -> None:
    image = build_image("redis")
    listed = docker("run", "--rm", "--init", "--entrypoint=dpkg-query", image, "--show")
    found = labels(image)
    assert found[PACKAGES_LABEL].split() == [
        line.replace(":amd64\t", "=").replace(":arm64\t", "=").replace("\t", "=")
        for line in listed.splitlines()
    ]
    assert any(package.startswith("redis-server=5:7.") for package in found[PACKAGES_LABEL].split())
    assert datetime.fromisoformat(found[PACKAGES_DATE_LABEL]) <= datetime.now(UTC)


@promise("a refresh installs the packages again, and an unchanged image is not rebuilt")
def test_only_another_refresh_installs_the_packages_again(tmp_path: Path, tag: str) -> None:
    (tmp_path / "Dockerfile").write_text(SMALL)
    # The engine caches the layers of earlier runs of this test.
    first, second = f"{tag} first", f"{tag} second"
    dates = []
    for refresh in (first, first, second):
        build(tmp_path, tag, refresh=refresh)
        dates.append(labels(tag)[PACKAGES_DATE_LABEL])
    assert dates[0] == dates[1] < dates[2]


@promise("every image is for the engine's architecture, whatever DOCKER_DEFAULT_PLATFORM says")
def test_a_default_platform_of_the_user_does_not_change_what_is_built(
    tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = server().arch
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/amd64" if own == "arm64" else "linux/arm64")
    (tmp_path / "Dockerfile").write_text(SMALL)
    build(tmp_path, tag)
    (found,) = inspect("image", tag)
    assert found["Architecture"] == own


def test_images_need_no_signature(tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTENT_TRUST", "1")
    # No signatures can be looked up.
    monkeypatch.setenv("DOCKER_CONTENT_TRUST_SERVER", "https://127.0.0.1:1")
    (tmp_path / "Dockerfile").write_text(SMALL)
    build(tmp_path, tag)
    assert docker("run", "--rm", "--init", "--network=none", tag, "echo", "ran") == "ran\n"


def test_a_failed_build_reports_its_last_lines_and_leaves_no_tag(tmp_path: Path, tag: str) -> None:
    reason = f"no package {uuid.uuid4().hex}"
    (tmp_path / "Dockerfile").write_text(f"{SMALL}RUN seq 100; echo {reason} >&2; exit 3\n")
    with pytest.raises(DockerError) as caught:
        build(tmp_path, tag)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 11
    assert not docker("image", "ls", "--quiet", "--filter", f"reference={tag}*").split()
    left = docker("container", "ls", "--all", "--no-trunc", "--format", "{{.Command}}")
    assert reason not in left


class _Proxy(BaseHTTPRequestHandler):
    """An HTTP proxy that answers every request itself, and records its URL and its login."""

    requests: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.requests.append((self.path, self.headers.get("Proxy-Authorization", "")))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL, with a password, of a proxy in upper-case variables of the environment. Docker configures no other."""
    monkeypatch.setattr(_Proxy, "requests", [])
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    for name in proxies.NAMES:
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://ann:{PASSWORD}@127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HTTP_PROXY", url)
        yield url
        server.shutdown()
        thread.join()


@promise("apt in a build uses the proxies of the environment, and no image contains them")
def test_apt_in_a_build_uses_the_proxy_of_the_environment(
    tmp_path: Path, tag: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = f"http://packages.invalid/{uuid.uuid4().hex}"
    context = tmp_path / "context"
    context.mkdir()
    fetch = f"RUN /usr/lib/apt/apt-helper download-file {wanted} /fetched && grep ok /fetched\n"
    (context / "Dockerfile").write_text(f"{SMALL}{fetch}")
    first = build(context, tag)
    login = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    assert (wanted, f"Basic {login}") in _Proxy.requests
    seen = docker("image", "inspect", tag) + docker("image", "history", "--no-trunc", tag)
    assert PASSWORD not in seen
    assert "_proxy" not in seen.lower()
    # Another proxy, or none, does not change the image.
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setattr(proxies, "_of_apt", dict)
    assert build(context, tag) == first


def test_a_failed_build_does_not_print_the_password_of_a_proxy(tmp_path: Path, tag: str, proxy: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"{SMALL}RUN echo {tag} >&2; env >&2; exit 3\n")
    with pytest.raises(DockerError, match=r"http_proxy=http://\*\*\*@127\.0\.0\.1") as caught:
        build(tmp_path, tag)
    printed = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in printed


@promise("`up` and `doctor` report packages that are older than 30 days")
def test_old_packages_are_reported_for_each_container(tag: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCMD none\n")
    docker("build", "--quiet", "--tag", tag, str(tmp_path))
    prefix = f"gw-test-{uuid.uuid4().hex[:8]}-"
    now = datetime.now(UTC)
    dates = {"postgres": now - timedelta(days=45), "redis": now - timedelta(days=PACKAGES_DAYS)}
    options = {
        service: [f"--label={PACKAGES_DATE_LABEL}={date:%Y-%m-%dT%H:%M:%SZ}"]
        for service, date in dates.items()
    }
    containers = [
        docker("create", "--name", f"{prefix}{service}", *options.get(service, []), tag).strip()
        # A container of an earlier version has no label, and monitoring is off.
        for service in ("postgres", "redis", "access")
    ]
    try:
        assert old_packages(prefix, time.time()) == {"postgres": 45}
    finally:
        docker("rm", "--volumes", *containers)


# Writes the names and versions of the packages in dpkg's records of the root file system that it reads.
_LISTING = f"""#!{sys.executable}
import re, sys, tarfile

with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as root:
    (records,) = [root.extractfile(each).read().decode() for each in root if each.name == "var/lib/dpkg/status"]
names, versions = (re.findall(rf"^{{key}}: (.+)$", records, re.MULTILINE) for key in ("Package", "Version"))
with open(sys.argv[sys.argv.index("--out") + 1] + ".cdx.json", "w") as bill:
    bill.writelines(f"{{name}}={{version}}\\n" for name, version in zip(names, versions, strict=True))
"""


@promise("a bill of materials lists every Debian package of an image")
def test_the_tool_of_the_bill_reads_the_records_of_every_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sbom, "FOLDER", tmp_path)
    program = tmp_path / "debsbom"
    program.write_text(_LISTING)
    program.chmod(0o755)
    context = image_context(Checkout.here(), "redis")
    listed = sbom.of_image(tmp_path, context).read_text().split()
    packages = labels(context.tag)[PACKAGES_LABEL].split()
    assert len(packages) > 50
    assert set(packages) <= set(listed)


@promise("a bill of materials lists every Debian package of an image")
@pytest.mark.skipif(
    not IS_FULL, reason="SCALE=full: installs the tools, and lists an image in 10 s of CPU time"
)
def test_a_bill_of_materials_lists_the_packages_of_an_image() -> None:
    context = image_context(Checkout.here(), "redis")
    bill = json.loads(sbom.of_image(tools.install(), context).read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", sbom.VERSION)
    listed = {f"{component['name']}={component['version']}" for component in bill["components"]}
    assert set(labels(context.tag)[PACKAGES_LABEL].split()) <= listed

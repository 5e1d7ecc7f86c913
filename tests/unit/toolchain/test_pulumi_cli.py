"""The order in which the Pulumi CLI is searched, and what is remembered."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from infra.spec.checkout import Checkout
from ops.toolchain import golang, inventory, process, pulumi_cli, releases, versions
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress
from tests.promises import promise
from tests.web_server import QuietHandler, served

Program = Callable[[Path, str], Path]
HOST_NAME = "pulumi-language-python"


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: Program) -> list[str]:
    """The builds that were tried. A build succeeds, and there are no releases."""
    tried: list[str] = []
    scripts = tmp_path / "sdk" / "python"
    program(scripts / "cmd" / "pulumi-language-python-exec", "")
    program(scripts / "dist" / "pulumi-resource-pulumi-python", "")

    def build(_go: object, _build: object, output: Path, *_: object) -> None:
        tried.append("build")
        output.write_text("built")

    go = golang.Go(Path("go"), Tool("Go", "1.26.6", ToolSource.FOUND, "go"))
    monkeypatch.setattr(golang, "find", lambda *_: go)
    monkeypatch.setattr(golang, "compile", build)
    monkeypatch.setattr(golang, "module_folder", lambda *_: tmp_path / "sdk")
    monkeypatch.setattr(pulumi_cli, "releases_are_reached", lambda: False)
    return tried


@dataclass
class Publisher:
    """A server with Pulumi's releases: archives, and lists of their sums. Nothing is there at first."""

    folder: Path

    def publish(self, *, listed: bool = True, sum_of: bytes | None = None) -> Path:
        """Publish a release of the CLI. The list has the sum of `sum_of` instead of the archive's own."""
        release = releases.cli(versions.PULUMI, versions.platform_name())
        archive = self.folder / "sdk" / release.archive
        archive.parent.mkdir(exist_ok=True)
        with tarfile.open(archive, "w:gz") as opened:
            for name, content in (("pulumi", b"#!/bin/sh\necho v3.259.0\n"), (HOST_NAME, b"\x7fELF")):
                member = tarfile.TarInfo(f"pulumi/{name}")
                member.size, member.mode = len(content), 0o755
                opened.addfile(member, io.BytesIO(content))
        if listed:
            path = self.folder / release.list_url.removeprefix(f"{releases.GITHUB}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            found = hashlib.sha256(sum_of or archive.read_bytes()).hexdigest()
            path.write_text(f"{'0' * 64}  another.tar.gz\n{found}  {release.archive}\n")
        return archive


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, attempts: list[str], tmp_path: Path) -> Iterator[Publisher]:
    """Make official releases reachable, on a local server."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with served(Handler) as port:
        address = f"http://127.0.0.1:{port}"
        monkeypatch.setattr(releases, "HOST", address)
        monkeypatch.setattr(releases, "GITHUB", address)
        monkeypatch.setattr(pulumi_cli, "releases_are_reached", lambda: True)
        yield Publisher(folder)


def on_path(path: Path, program: Program, version: str = "3.300.0") -> Path:
    program(path / "pulumi-language-python", "")
    return program(path / "pulumi", f"echo v{version}")


def test_a_supported_cli_on_path_is_used(
    checkout: Checkout, progress: Progress, path: Path, program: Program, attempts: list[str]
) -> None:
    command = on_path(path, program)
    cli = pulumi_cli.ensure(checkout, progress)
    assert (cli.command, cli.tool.source, cli.tool.version) == (command, ToolSource.FOUND, "3.300.0")
    assert attempts == []


@pytest.mark.parametrize("version", ["3.258.9", "2.999.0", "4.0.0", "dirty"])
def test_an_unsupported_cli_on_path_is_skipped(
    checkout: Checkout, progress: Progress, path: Path, program: Program, attempts: list[str], version: str
) -> None:
    on_path(path, program, version)
    assert pulumi_cli.ensure(checkout, progress).tool.source is ToolSource.BUILT


def test_a_cli_without_a_language_host_is_skipped(
    checkout: Checkout, progress: Progress, path: Path, program: Program, attempts: list[str]
) -> None:
    on_path(path, program)
    (path / "pulumi-language-python").unlink()
    assert pulumi_cli.ensure(checkout, progress).tool.source is ToolSource.BUILT


def test_groundworks_own_cache_on_path_is_not_taken_for_the_users_cli(
    checkout: Checkout, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = checkout.cache_dir / "pulumi" / "old" / "bin"
    on_path(ours, program)
    monkeypatch.setenv("PATH", f"{ours}:/usr/bin:/bin")
    assert pulumi_cli.installed(checkout) is None


def test_a_release_is_preferred_to_a_build(
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str], publisher: Publisher
) -> None:
    publisher.publish()
    cli = pulumi_cli.ensure(checkout, progress)
    assert attempts == []
    assert cli.tool.source is ToolSource.DOWNLOADED
    assert cli.command == versions.pulumi_release(checkout) / "bin" / "pulumi"
    assert process.run([str(cli.command)]) == ["v3.259.0"]
    # A release has its own language host.
    assert (cli.command.parent / HOST_NAME).read_bytes() == b"\x7fELF"


@promise("a downloaded release is used only if its SHA-256 sum is the expected one")
@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "published"])
def test_a_release_with_another_checksum_is_deleted_and_built_instead(
    checkout: Checkout,
    progress: Progress,
    said: StringIO,
    path: Path,
    attempts: list[str],
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_recorded: bool,
) -> None:
    archive = publisher.publish(sum_of=None if is_recorded else b"the genuine release")
    if is_recorded:
        # The sum in the repository counts, even if the publisher's list agrees with a replaced archive.
        sums = tmp_path / "sums"
        sums.write_text(f"{hashlib.sha256(b'the genuine release').hexdigest()}  {archive.name}\n")
        monkeypatch.setattr(releases, "SUMS", sums)
    assert pulumi_cli.ensure(checkout, progress).tool.source is ToolSource.BUILT
    assert attempts == ["build"]
    assert "has the SHA-256 sum" in said.getvalue()
    assert not versions.pulumi_release(checkout).exists()


@promise("a downloaded release is used only if its SHA-256 sum is the expected one")
def test_a_release_without_a_known_checksum_is_not_downloaded(
    checkout: Checkout,
    progress: Progress,
    said: StringIO,
    path: Path,
    attempts: list[str],
    publisher: Publisher,
) -> None:
    publisher.publish(listed=False)
    assert pulumi_cli.ensure(checkout, progress).tool.source is ToolSource.BUILT
    assert "is not known; building it instead" in said.getvalue()


@promise("what cannot be downloaded is built")
def test_a_failed_download_is_reported_and_followed_by_a_build(
    checkout: Checkout,
    progress: Progress,
    said: StringIO,
    path: Path,
    attempts: list[str],
    publisher: Publisher,
) -> None:
    publisher.publish().unlink()
    assert pulumi_cli.ensure(checkout, progress).tool.source is ToolSource.BUILT
    assert attempts == ["build"]
    assert "cannot download the official release" in said.getvalue()
    assert not versions.pulumi_release(checkout).exists()


def test_no_download_is_tried_if_releases_are_unreachable(
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str]
) -> None:
    cli = pulumi_cli.ensure(checkout, progress)
    assert attempts == ["build"]
    assert {file.name for file in cli.command.parent.iterdir()} == {
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    }


def test_the_cli_is_built_only_once(
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str]
) -> None:
    pulumi_cli.ensure(checkout, progress)
    again = pulumi_cli.ensure(checkout, progress)
    assert attempts == ["build"]
    assert again.tool.source is ToolSource.CACHED


def test_another_checkout_uses_the_cache(
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str], tmp_path: Path
) -> None:
    pulumi_cli.ensure(checkout, progress)
    clone = Checkout(
        root=checkout.root, key="fff", state_dir=tmp_path / "other", cache_dir=checkout.cache_dir
    )
    assert pulumi_cli.ensure(clone, progress).tool.source is ToolSource.CACHED
    assert attempts == ["build"]


def test_a_remembered_cli_runs_no_program(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(path, program)
    pulumi_cli.ensure(checkout, progress)
    monkeypatch.setattr(process, "run", lambda *_, **__: pytest.fail("a program was run"))
    assert pulumi_cli.installed(checkout) is not None


def test_an_upgraded_cli_is_checked_again(
    checkout: Checkout, progress: Progress, path: Path, program: Program
) -> None:
    command = on_path(path, program)
    pulumi_cli.ensure(checkout, progress)
    program(command, "echo v3.310.11")
    assert inventory.recall(checkout) is None
    assert pulumi_cli.ensure(checkout, progress).tool.version == "3.310.11"


def test_the_launcher_explains_what_to_do_outside_its_environment(
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str]
) -> None:
    launcher = pulumi_cli.ensure(checkout, progress).command.parent / "pulumi-language-python"
    with pytest.raises(CommandFailed, match="groundwork shellenv"):
        process.run([str(launcher), "127.0.0.1:1"], env={"PATH": "/usr/bin:/bin"})


def test_a_server_that_does_not_speak_http_has_no_releases(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

        do_HEAD = do_GET

    with served(Handler) as port:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        url = f"http://127.0.0.1:{port}/list"
        monkeypatch.setattr(pulumi_cli, "_RELEASES", url)
        assert releases.published_sums(url) == {}
        assert not pulumi_cli.releases_are_reached.__wrapped__()
        assert releases._main([url, str(tmp_path / "archive"), "0" * 64]) == 1
    assert capfd.readouterr().err.startswith(f"{url}: ")


@promise("an unreachable network delays a run by seconds only")
def test_an_unresponsive_network_costs_only_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import threading
    import time

    is_over = threading.Event()

    def swallow(*_: object, **__: object) -> None:
        is_over.wait(30)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", swallow)
    monkeypatch.setattr(pulumi_cli, "_PROBE_SECONDS", 0.3)
    started = time.monotonic()
    assert not pulumi_cli.releases_are_reached.__wrapped__()
    assert time.monotonic() - started < 3
    is_over.set()

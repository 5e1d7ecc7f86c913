"""The order in which the Pulumi CLI is searched, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from ops.toolchain import golang, inventory, process, pulumi_cli, versions
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress
from tests.promises import promise

Program = Callable[[Path, str], Path]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: Program) -> list[str]:
    """The attempts, in order. A build succeeds, and a download succeeds if `releases` allows it."""
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


@pytest.fixture
def releases(
    monkeypatch: pytest.MonkeyPatch, attempts: list[str], program: Program
) -> Callable[[bool], None]:
    """Make official releases reachable. The argument says whether a download succeeds."""
    real = process.run

    def reach(succeeds: bool) -> None:
        def run(command: list[str], **how: object) -> list[str]:
            if "PulumiCommand" not in " ".join(command):
                return real(command, **how)  # type: ignore[arg-type]
            attempts.append("download")
            if not succeeds:
                raise CommandFailed(command, "failed with exit code 1", ["curl: (6) no such host"])
            program(Path(command[3]) / "bin" / "pulumi", "echo v3.259.0")
            Path(command[3], "bin", "pulumi-language-python").write_bytes(b"\x7fELF")
            return []

        monkeypatch.setattr(pulumi_cli, "releases_are_reached", lambda: True)
        monkeypatch.setattr(process, "run", run)

    return reach


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
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str], releases: Callable[[bool], None]
) -> None:
    releases(True)
    cli = pulumi_cli.ensure(checkout, progress)
    assert attempts == ["download"]
    assert cli.tool.source is ToolSource.DOWNLOADED
    assert cli.command == versions.pulumi_release(checkout) / "bin" / "pulumi"


def test_a_release_keeps_its_own_language_host(
    checkout: Checkout, progress: Progress, path: Path, attempts: list[str], releases: Callable[[bool], None]
) -> None:
    releases(True)
    cli = pulumi_cli.ensure(checkout, progress)
    assert (cli.command.parent / "pulumi-language-python").read_bytes() == b"\x7fELF"


@promise("what cannot be downloaded is built")
def test_a_failed_download_is_reported_and_followed_by_a_build(
    checkout: Checkout,
    progress: Progress,
    said: StringIO,
    path: Path,
    attempts: list[str],
    releases: Callable[[bool], None],
) -> None:
    releases(False)
    assert pulumi_cli.ensure(checkout, progress).tool.source is ToolSource.BUILT
    assert attempts == ["download", "build"]
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

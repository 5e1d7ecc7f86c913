"""The order in which the Pulumi CLI is looked for, and what of it is remembered."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from infra.spec.world import World
from ops.toolchain import golang, inventory, process, pulumi_cli, versions
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress

Program = Callable[[Path, str], Path]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: Program) -> list[str]:
    """What was tried, in order; a build succeeds, a download does where `releases` lets it."""
    tried: list[str] = []
    scripts = tmp_path / "sdk" / "python"
    program(scripts / "cmd" / "pulumi-language-python-exec", "")
    program(scripts / "dist" / "pulumi-resource-pulumi-python", "")

    def build(_go: object, _module: Path, _package: str, output: Path, **_how: object) -> None:
        tried.append("build")
        output.write_text("built")

    go = golang.Go(Path("go"), Tool("Go", "1.26.6", Source.FOUND, "go"))
    monkeypatch.setattr(golang, "find", lambda *_: go)
    monkeypatch.setattr(golang, "build", build)
    monkeypatch.setattr(golang, "module_folder", lambda *_: tmp_path / "sdk")
    monkeypatch.setattr(pulumi_cli, "releases_are_reached", lambda: False)
    return tried


@pytest.fixture
def releases(
    monkeypatch: pytest.MonkeyPatch, attempts: list[str], program: Program
) -> Callable[[bool], None]:
    """Let official releases be reached; whether downloading one succeeds is the argument."""
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


def test_a_supported_cli_on_path_is_taken(
    world: World, progress: Progress, path: Path, program: Program, attempts: list[str]
) -> None:
    command = on_path(path, program)
    cli = pulumi_cli.ensure(world, progress)
    assert (cli.command, cli.tool.source, cli.tool.version) == (command, Source.FOUND, "3.300.0")
    assert attempts == []


@pytest.mark.parametrize("version", ["3.258.9", "2.999.0", "4.0.0", "dirty"])
def test_an_unsupported_cli_on_path_is_passed_over(
    world: World, progress: Progress, path: Path, program: Program, attempts: list[str], version: str
) -> None:
    on_path(path, program, version)
    assert pulumi_cli.ensure(world, progress).tool.source is Source.BUILT


def test_a_cli_without_a_language_host_is_passed_over(
    world: World, progress: Progress, path: Path, program: Program, attempts: list[str]
) -> None:
    on_path(path, program)
    (path / "pulumi-language-python").unlink()
    assert pulumi_cli.ensure(world, progress).tool.source is Source.BUILT


def test_our_own_cache_on_path_is_not_found_as_the_users(
    world: World, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = world.cache_dir / "pulumi" / "old" / "bin"
    on_path(ours, program)
    monkeypatch.setenv("PATH", f"{ours}:/usr/bin:/bin")
    assert pulumi_cli.installed(world) is None


def test_a_release_is_preferred_to_a_build(
    world: World, progress: Progress, path: Path, attempts: list[str], releases: Callable[[bool], None]
) -> None:
    releases(True)
    cli = pulumi_cli.ensure(world, progress)
    assert attempts == ["download"]
    assert cli.tool.source is Source.DOWNLOADED
    assert cli.command == versions.pulumi_release(world) / "bin" / "pulumi"


def test_a_release_keeps_its_own_language_host(
    world: World, progress: Progress, path: Path, attempts: list[str], releases: Callable[[bool], None]
) -> None:
    releases(True)
    cli = pulumi_cli.ensure(world, progress)
    assert (cli.command.parent / "pulumi-language-python").read_bytes() == b"\x7fELF"


def test_a_failed_download_is_said_and_followed_by_a_build(
    world: World,
    progress: Progress,
    said: StringIO,
    path: Path,
    attempts: list[str],
    releases: Callable[[bool], None],
) -> None:
    releases(False)
    assert pulumi_cli.ensure(world, progress).tool.source is Source.BUILT
    assert attempts == ["download", "build"]
    assert "no official release" in said.getvalue()
    assert not versions.pulumi_release(world).exists()


def test_where_no_release_is_reached_none_is_tried(
    world: World, progress: Progress, path: Path, attempts: list[str]
) -> None:
    cli = pulumi_cli.ensure(world, progress)
    assert attempts == ["build"]
    assert {file.name for file in cli.command.parent.iterdir()} == {
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    }


def test_what_was_built_is_built_once(
    world: World, progress: Progress, path: Path, attempts: list[str]
) -> None:
    pulumi_cli.ensure(world, progress)
    again = pulumi_cli.ensure(world, progress)
    assert attempts == ["build"]
    assert again.tool.source is Source.CACHED


def test_another_checkout_takes_what_the_cache_has(
    world: World, progress: Progress, path: Path, attempts: list[str], tmp_path: Path
) -> None:
    pulumi_cli.ensure(world, progress)
    clone = World(root=world.root, key="fff", state_dir=tmp_path / "other", cache_dir=world.cache_dir)
    assert pulumi_cli.ensure(clone, progress).tool.source is Source.CACHED
    assert attempts == ["build"]


def test_a_remembered_cli_costs_no_program(
    world: World, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(path, program)
    pulumi_cli.ensure(world, progress)
    monkeypatch.setattr(process, "run", lambda *_, **__: pytest.fail("a program was run"))
    assert pulumi_cli.installed(world) is not None


def test_a_cli_that_was_upgraded_is_asked_anew(
    world: World, progress: Progress, path: Path, program: Program
) -> None:
    command = on_path(path, program)
    pulumi_cli.ensure(world, progress)
    program(command, "echo v3.310.11")
    assert inventory.recall(world) is None
    assert pulumi_cli.ensure(world, progress).tool.version == "3.310.11"


def test_the_launcher_says_what_to_do_outside_of_its_environment(
    world: World, progress: Progress, path: Path, attempts: list[str]
) -> None:
    launcher = pulumi_cli.ensure(world, progress).command.parent / "pulumi-language-python"
    with pytest.raises(CommandFailed, match="groundwork shellenv"):
        process.run([str(launcher), "127.0.0.1:1"], env={"PATH": "/usr/bin:/bin"})


def test_a_network_that_swallows_packets_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
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

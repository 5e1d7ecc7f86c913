"""The environment in which Pulumi runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.spec.checkout import Checkout
from ops.commands.shellenv import shellenv
from ops.errors import Exit, OpsError
from ops.toolchain import docker_engine, inventory, provision, pulumi_environment
from ops.toolchain.docker_engine import CERTIFICATE_FILES, NoEngineError
from ops.toolchain.inventory import Choice, ToolSource
from tests.cases import in_case
from tests.promises import promise

Program = Callable[[Path, str], Path]
_TLS = ("DOCKER_TLS", "DOCKER_TLS_VERIFY")


@pytest.fixture
def pulumi(checkout: Checkout, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A remembered CLI, and a home folder without a Docker context."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", *_TLS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    command = program(checkout.cache_dir / "bin" / "pulumi", "")
    inventory.remember(checkout, Choice.of(command, "3.259.0"))
    return command


def test_without_the_toolchain_the_error_says_how_to_install_it(checkout: Checkout) -> None:
    with pytest.raises(OpsError, match="run `groundwork toolchain` first") as refusal:
        pulumi_environment.variables(checkout)
    assert refusal.value.exit_code is Exit.PENDING


def test_the_checkouts_python_comes_first_on_path_then_the_cli(
    checkout: Checkout, pulumi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"/usr/bin:{pulumi.parent}:/bin")
    folders = pulumi_environment.variables(checkout)["PATH"].split(os.pathsep)
    assert folders == [str(checkout.root / ".venv" / "bin"), str(pulumi.parent), "/usr/bin", "/bin"]


@pytest.mark.usefixtures("pulumi")
def test_applying_it_twice_changes_nothing(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pulumi_environment.variables(checkout)
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert pulumi_environment.variables(checkout) == first


@promise("a variable that would override the checkout's own backend or passphrase is dropped")
@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize(
    "name",
    [
        *("PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK", "PULUMI_SKIP_CHECKPOINTS"),
        *("PULUMI_DIY_BACKEND_GZIP", "PULUMI_DIY_BACKEND_ZSTD", "PULUMI_DIY_BACKEND_LEGACY_LAYOUT"),
        *("PULUMI_SELF_MANAGED_STATE_GZIP", "PULUMI_SELF_MANAGED_STATE_ZSTD"),
        "PULUMI_SELF_MANAGED_STATE_LEGACY_LAYOUT",
        *("PULUMI_OPTION_TARGET", "PULUMI_OPTION_REFRESH", "PYTHONHOME"),
    ],
)
def test_variables_that_would_override_the_checkouts_settings_are_dropped(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "of the user's")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    env = pulumi_environment.environment(checkout)
    assert name not in env
    assert name in pulumi_environment.dropped()
    assert env["HTTPS_PROXY"] == "kept"


@pytest.mark.usefixtures("pulumi")
def test_pulumi_imports_the_checkouts_own_modules(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/another/project")
    assert pulumi_environment.environment(checkout)["PYTHONPATH"] == str(checkout.root)
    # `shellenv` leaves it as it is: another checkout in the same shell would import this one's modules.
    assert "PYTHONPATH" not in {*pulumi_environment.dropped(), *pulumi_environment.variables(checkout)}


@pytest.mark.usefixtures("pulumi")
def test_a_user_that_the_system_does_not_know_has_a_name_and_a_home(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_123_456)
    env = pulumi_environment.variables(checkout)
    assert (env["USER"], env["HOME"]) == ("4123456", env["PULUMI_HOME"])
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert pulumi_environment.variables(checkout)["USER"] == "root"
    monkeypatch.setenv("USER", "ann")
    assert pulumi_environment.variables(checkout)["USER"] == "ann"


@pytest.mark.usefixtures("pulumi")
def test_backend_and_passphrase_belong_to_the_checkout(checkout: Checkout) -> None:
    env = pulumi_environment.variables(checkout)
    assert env["PULUMI_BACKEND_URL"] == f"file://{checkout.backend_dir}?metadata=skip"
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(checkout.passphrase_file)


def context(home: Path, host: str, *files: str, **endpoint: object) -> Path:
    """Select the context `far` in the docker command's configuration, and return the folder of its certificates."""
    folder = home / ".docker"
    meta, tls = folder / "contexts" / "meta" / "0123", folder / "contexts" / "tls" / "0123" / "docker"
    for path in (meta, tls):
        path.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"currentContext": "far"}))
    described = {"Name": "far", "Endpoints": {"docker": {"Host": host, **endpoint}}}
    (meta / "meta.json").write_text(json.dumps(described))
    for name in files:
        (tls / name).touch()
    return tls


@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize("host", ["unix:///home/me/.colima/docker.sock", "ssh://me@far", "tcp://far:2375"])
def test_pulumi_uses_the_docker_commands_context(
    checkout: Checkout, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The docker command does not apply the variables of TLS to a context."""
    context(tmp_path / "home", host, SkipTLSVerify=False)
    for name in ("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.setenv(name, "of another engine")
    env = pulumi_environment.environment(checkout)
    assert {name: value for name, value in env.items() if name.startswith("DOCKER_")} == {"DOCKER_HOST": host}


@pytest.mark.usefixtures("pulumi")
def test_pulumi_uses_the_certificates_of_the_context(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = context(tmp_path / "home", "tcp://far:2376", *CERTIFICATE_FILES)
    monkeypatch.setenv("DOCKER_TLS", "1")
    wanted = {
        "DOCKER_HOST": "tcp://far:2376",
        "DOCKER_CERT_PATH": str(folder),
        "DOCKER_TLS_VERIFY": "1",
    }
    env = pulumi_environment.environment(checkout)
    assert {name: value for name, value in env.items() if name.startswith("DOCKER_")} == wanted
    # In the shell that has evaluated `shellenv`, nothing changes.
    monkeypatch.delenv("DOCKER_TLS")
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    assert pulumi_environment.environment(checkout).items() >= wanted.items()


@pytest.mark.usefixtures("pulumi")
def test_shellenv_sets_the_certificates_of_the_context_and_unsets_others(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = context(tmp_path / "home", "tcp://far:2376", *CERTIFICATE_FILES)
    monkeypatch.setenv("DOCKER_TLS", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/of/another/engine")
    monkeypatch.setattr(Checkout, "here", lambda: checkout)
    monkeypatch.setattr("ops.toolchain.stack_init.ensure", lambda *_: None)
    lines = CliRunner().invoke(shellenv, ["--stack", "dev"]).stdout.splitlines()
    assert {f"export DOCKER_CERT_PATH={folder}", "export DOCKER_TLS_VERIFY=1", "unset DOCKER_TLS"} < set(
        lines
    )
    assert "unset DOCKER_CERT_PATH" not in lines


@promise("a context that Pulumi's provider cannot use is refused by `toolchain`")
@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize(
    ("files", "endpoint", "reason"),
    [
        (CERTIFICATE_FILES, {"SkipTLSVerify": True}, "does not verify the engine's certificate"),
        ((), {"SkipTLSVerify": True}, "does not verify the engine's certificate"),
        (("ca.pem",), {}, "has no cert.pem and no key.pem"),
        (("cert.pem", "key.pem"), {}, "has no ca.pem"),
    ],
)
def test_a_context_that_the_provider_cannot_use_is_refused(
    checkout: Checkout, tmp_path: Path, files: tuple[str, ...], endpoint: dict[str, object], reason: str
) -> None:
    context(tmp_path / "home", "tcp://far:2376", *files, **endpoint)
    for refused in (lambda: pulumi_environment.environment(checkout), docker_engine.find):
        with pytest.raises(NoEngineError, match=f"^context 'far' of .*{reason}.*docker context use default"):
            refused()
    engine, *_ = provision.inspect(checkout)
    assert (engine.source, reason in engine.where) == (ToolSource.MISSING, True)
    # The docker command does not use TLS for a socket.
    shutil.rmtree(tmp_path / "home")
    context(tmp_path / "home", "unix:///far.sock", *files, **endpoint)
    assert pulumi_environment.variables(checkout)["DOCKER_HOST"] == "unix:///far.sock"


@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize("content", ["{}", '{"currentContext": "default"}', "not json"])
def test_without_a_context_docker_host_is_unchanged(checkout: Checkout, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "home" / ".docker"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    assert "DOCKER_HOST" not in pulumi_environment.variables(checkout)


@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ({"DOCKER_HOST": "tcp://10.0.0.1:2375", "DOCKER_CONTEXT": "colima"}, "tcp://10.0.0.1:2375"),
        ({"DOCKER_CONTEXT": "default"}, "unix:///var/run/docker.sock"),
    ],
)
def test_pulumis_provider_uses_the_engine_of_the_docker_command(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], engine: str
) -> None:
    """The provider's own logic: a context takes precedence over DOCKER_HOST, and `default` is unknown."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    env = pulumi_environment.environment(checkout)
    assert (env["DOCKER_HOST"], env.get("DOCKER_CONTEXT")) == (engine, None)


@pytest.mark.usefixtures("pulumi")
def test_pulumis_provider_uses_tls_where_the_docker_command_does(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider's own logic: it uses TLS whenever it gets certificates."""
    near, far = "unix:///var/run/docker.sock", "tcp://127.0.0.1:2376"
    cases: list[tuple[str, dict[str, str], bool]] = [
        (far, {}, False),
        (far, {"DOCKER_TLS": "", "DOCKER_TLS_VERIFY": ""}, False),
        (far, {"DOCKER_TLS": "1"}, True),
        (far, {"DOCKER_TLS_VERIFY": "1"}, True),
        (near, {"DOCKER_TLS_VERIFY": "1"}, False),
    ]
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certificates")
    for name in ("DOCKER_CA_MATERIAL", "DOCKER_CERT_MATERIAL", "DOCKER_KEY_MATERIAL"):
        monkeypatch.setenv(name, "of Terraform")
    for host, variables, uses_tls in cases:
        with in_case(host, variables), monkeypatch.context() as patch:
            for name, value in {"DOCKER_HOST": host, **variables}.items():
                patch.setenv(name, value)
            env = pulumi_environment.environment(checkout)
            assert ("DOCKER_CERT_PATH" in env) == uses_tls
            assert not [name for name in env if name.endswith("_MATERIAL")]

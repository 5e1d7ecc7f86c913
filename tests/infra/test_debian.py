"""`make up` on a bare Debian, in a container: Debian's Python, and the Docker engine that `make up` installs.

Debian 13 has Python 3.13 and Docker 26; Debian 14, which is not released, has Python 3.14 and Docker 28.

The container runs its own engine. It uses only this machine's network, its certificate authorities, and the Pulumi
tools that this machine has built. Each test continues from the previous one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.docker.engine import docker
from infra.spec.checkout import Checkout
from tests.containers import wait_until
from tests.infra.checkout import ROOT
from tests.scale import IS_FULL

pytestmark = [
    pytest.mark.skipif(not IS_FULL, reason="takes five minutes: SCALE=full runs it"),
    pytest.mark.skipif(os.geteuid() != 0, reason="creating a Debian image needs root"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed"),
    pytest.mark.timeout(3600),
]
NAME = f"groundwork-debian-{os.getpid()}"
# A mirror may be some weeks behind. This setting also applies in the container.
_LATE_MIRROR = '--aptopt=Acquire::Check-Valid-Until "false"'
# The requirements in README.md. Only this test needs `mount` and `passwd`.
PACKAGES = ("ca-certificates", "git", "make", "mount", "passwd", "python3", "python3-venv")
# An engine mounts file systems, creates bridges and firewall rules, and enters containers of other users. Docker's
# seccomp profile does not allow it to start a container, and AppArmor's does not allow mounts (docs/toolchain.md).
PRIVILEGES = (
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
)
# Docker mounts these read-only. An engine creates cgroups, and sets network parameters.
REMOUNT = """
for folder in /proc/sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [ ! -L "$folder" ] && mountpoint -q "$folder"; then mount -o remount,bind,rw "$folder"; fi
done
"""
CLONE = "groundwork"


@dataclass(frozen=True)
class Debian:
    """A release, its versions of Docker and Python, and the umask of the user who is not root."""

    name: str
    docker: int
    python: str
    umask: str


RELEASES = [Debian("trixie", 26, "3.13.", "077"), Debian("forky", 28, "3.14.", "027")]


@dataclass(frozen=True)
class Machine:
    """The container, and the clone of this checkout in root's home folder."""

    debian: Debian

    def run(self, script: str, timeout_seconds: float = 120) -> str:
        """Run a shell script in root's home folder, without a terminal, and return what it prints."""
        done = subprocess.run(
            ["docker", "exec", "--env", "HOME=/root", "--workdir", "/root", NAME, "bash", "-euc", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def groundwork(self, arguments: str) -> str:
        return self.run(f"cd {CLONE} && .venv/bin/groundwork {arguments}", 600)

    def health(self) -> dict[str, str]:
        """Return the health of each container of this machine's engine."""
        listed = self.run("docker ps --all --format '{{.Names}}={{.Status}}'").splitlines()
        return {name: status for name, _, status in (line.partition("=") for line in listed)}

    def is_healthy(self) -> bool:
        """Return whether Docker calls every container healthy. It checks them every 25 s (docs/adr/0023)."""
        return all("(healthy)" in status for status in self.health().values())


def _network_of_this_machine() -> list[str]:
    """Return the options that pass the package indexes' settings to the container. They are not written to a file."""
    names = [
        name
        for name in os.environ
        if name.lower().endswith("_proxy")
        or name
        in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "PIP_TRUSTED_HOST", "GOPROXY")
    ]
    options = [f"--env={name}" for name in names]
    authorities = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    if authorities and Path(authorities).is_file():
        inside = "/etc/ssl/certs/ca-certificates.crt"
        options += [f"--volume={Path(authorities).resolve()}:{inside}:ro", f"--env=PIP_CERT={inside}"]
    return options


def _mtu() -> int:
    """Return this machine's MTU. Docker's own networks assume 1500."""
    return min(
        int((interface / "mtu").read_text())
        for interface in Path("/sys/class/net").iterdir()
        if (interface / "device").exists()
    )


def _copy(folder: Path, names: list[str], target: str) -> None:
    """Copy files from this machine into the container, owned by root."""
    listing = "\0".join(names).encode()
    pack = ["tar", "--create", "--directory", str(folder), "--null", "--files-from=-"]
    archive = subprocess.run(pack, input=listing, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    unpack = f"mkdir -p {target} && tar --extract --no-same-owner --directory {target}"
    command = ["docker", "exec", "--interactive", NAME, "sh", "-c", unpack]
    subprocess.run(command, input=archive, check=True, timeout=120)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda debian: debian.name)
def machine(
    docker_engine: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    debian: Debian = request.param
    archive = tmp_path_factory.mktemp("debian") / "rootfs.tar"
    packages = f"--include={','.join(PACKAGES)}"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", packages, _LATE_MIRROR, debian.name, str(archive)],
        check=True,
        timeout=900,
    )
    try:
        docker("import", str(archive), NAME, timeout_seconds=600)
        archive.unlink()
        docker("network", "create", "--opt", f"com.docker.network.driver.mtu={_mtu()}", NAME)
        docker(
            *("run", "--detach", "--init", "--name", NAME, "--network", NAME, "--memory=5g", *PRIVILEGES),
            # overlayfs does not work on top of another engine's overlayfs.
            *("--volume=/var/lib/docker", *_network_of_this_machine(), NAME, "sleep", "infinity"),
        )
        machine = Machine(debian)
        machine.run(REMOUNT)
        tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True)
        names = [name for name in tracked.stdout.decode().split("\0") if name and (ROOT / name).exists()]
        _copy(ROOT, names, f"/root/{CLONE}")
        # Two Go builds take the longest on a new machine and do not depend on the Debian.
        cache = Checkout.here(ROOT).cache_dir
        built = [name for name in ("pulumi", "pulumi-home") if (cache / name).is_dir()]
        _copy(cache, built, "/root/.cache/groundwork")
        yield machine
    finally:
        for kind in ("container", "network", "image"):
            force = [] if kind == "network" else ["--force"]
            volumes = ["--volumes"] if kind == "container" else []
            command = ["docker", kind, "rm", *force, *volumes, NAME]
            subprocess.run(command, capture_output=True, check=False, timeout=120)


def test_make_up_as_root_installs_the_engine_and_starts_the_stack(machine: Machine) -> None:
    machine.run(f"cd {CLONE} && make up", 1800)
    assert len(machine.health()) == 3
    wait_until(machine.is_healthy, 90)
    version = machine.run("docker version --format '{{.Server.Version}}'")
    assert int(version.partition(".")[0]) >= machine.debian.docker
    assert machine.run(f"{CLONE}/.venv/bin/python --version").startswith(f"Python {machine.debian.python}")


def test_commands_work_on_the_stack(machine: Machine) -> None:
    machine.groundwork("seed")
    assert "healthy" in machine.groundwork("status")
    users = machine.groundwork("psql -- --tuples-only --command 'SELECT count(*) FROM groundwork.users'")
    assert int(users) > 0
    machine.groundwork("backup")
    machine.groundwork("rotate passwords app --grace 0 --yes")
    machine.groundwork("preview --refresh --expect-no-changes")


def test_make_up_with_monitoring_as_a_user_in_the_docker_group_under_another_umask(machine: Machine) -> None:
    """The user's checkout is another one: its own names, ports and state beside root's."""
    machine.run(f"""
        useradd --create-home --groups docker --shell /bin/bash ann
        mkdir -p /home/ann/.cache/groundwork
        cp -r /root/.cache/groundwork/pulumi /root/.cache/groundwork/pulumi-home /home/ann/.cache/groundwork/
        cp -r {CLONE} /home/ann/ && rm -rf /home/ann/{CLONE}/.venv
        sed --in-place '/^config:/a \\  groundwork:monitoring: "true"' /home/ann/{CLONE}/Pulumi.dev.yaml
        chown -R ann: /home/ann && chmod -R go-rwx /home/ann
    """)

    def as_ann(script: str, timeout_seconds: float = 600) -> str:
        whole = f"umask {machine.debian.umask} && cd /home/ann/{CLONE} && {script}"
        return machine.run(f"su ann --command {shlex.quote(whole)}", timeout_seconds)

    before = machine.health().keys()
    as_ann("make up", 1800)
    assert len(machine.health().keys() - before) == 6
    wait_until(machine.is_healthy, 90)
    as_ann(".venv/bin/groundwork seed")
    assert "healthy" in as_ann(".venv/bin/groundwork status")
    as_ann(".venv/bin/groundwork backup")
    as_ann(".venv/bin/groundwork down --volumes --yes")
    assert machine.health().keys() == before

"""Drives Pulumi for one stack: up, preview, down, outputs. What the stack consists of is infra's affair."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import outputs
from infra.docker.engine import inspect
from infra.docker.leases import take_leases
from infra.docker.leftovers import remove_leftovers
from infra.rotation_file import forget_rotation
from infra.settings import AWS, DOCKER, StackSettings
from infra.spec.errors import SettingError
from infra.spec.world import PROJECT, World
from ops.errors import Exit, OpsError
from ops.pulumi_state import LocalState
from ops.toolchain.pulumi_environment import environment
from ops.toolchain.stack_init import ensure as ensure_stack
from ops.toolchain.state_backend import URL, StateBackend

# Pulumi leaves unchanged resources out of its JSON unasked; whoever reads it wants the whole stack.
JSON_PREVIEW = ("--json", "--show-sames")
# Pulumi's exit code where none were expected.
_CHANGES = 7
_UNASKED = ("--yes", "--skip-preview", "--suppress-outputs")
_CONTAINER = "docker:index/container:Container"


@dataclass(frozen=True)
class PulumiStack:
    """One stack of this checkout."""

    world: World
    name: str

    def up(self, *, to_stderr: bool = False) -> None:
        """Converge. Output goes to the terminal; OpsError with Pulumi's own diagnostics above it on failure."""
        pack = self._policy_pack(self.prepare())
        # Pulumi believes the state: what is gone would stay gone.
        refresh = ["--refresh"] if self._misses_a_container() else []
        self._stream("up", *_UNASKED, *refresh, *pack, to_stderr=to_stderr)

    def preview(self, *arguments: str, expect_no_changes: bool = False) -> None:
        """Show what `up` would do. OpsError (4) where it would do something and nothing is expected."""
        pack = self._policy_pack(self.prepare())
        # In JSON what the pack would find is `groundwork policy check`'s to say.
        arguments += () if "--json" in arguments else tuple(pack)
        expected = ["--expect-no-changes"] if expect_no_changes else []
        if self._stream("preview", *arguments, *expected, accepted=(0, _CHANGES)) == _CHANGES:
            raise OpsError(
                f"stack {self.name!r} is not as the program says; what differs is above,"
                f" and `groundwork up --stack {self.name}` would change it",
                Exit.MISMATCH,
            )

    def preview_json(self) -> str:
        """Pulumi's JSON of what `up` would do, unchanged resources too, also of a preview that failed."""
        self.prepare()
        done = self._completed("preview", *JSON_PREVIEW)
        if not done.stdout.startswith("{"):
            raise OpsError(f"`pulumi preview` failed for stack {self.name!r}: {done.stderr.strip()}")
        return done.stdout

    def down(self, *, volumes: bool) -> None:
        """Destroy the stack; without `volumes` the data volumes and the generated secrets stay."""
        if not self.exists:
            return
        settings = self.check_settings()
        if self._is_local:
            self._go_on_from_a_killed_run(settings)
        if settings.target == DOCKER:
            self._agree_on_containers()
        if volumes:
            self._run("state", "unprotect", "--all", "--yes")
            self._stream("destroy", *_UNASKED)
            # Before the state, without which nobody would come back for it.
            forget_rotation(self.world, self.name)
            self._run("stack", "rm", self.name, "--yes", "--preserve-config", stack=False)
            return
        if targets := self._urns_without_data():
            chosen = [argument for urn in targets for argument in ("--target", urn)]
            self._stream("destroy", *_UNASKED, "--target-dependents", *chosen)

    def _agree_on_containers(self) -> None:
        """What the state does not know holds the network; what is gone the provider cannot stop, and fails."""
        for name in remove_leftovers(self.world, self.name):
            print(f"removed {name}, which an interrupted run had left behind", file=sys.stderr)
        if self._misses_a_container():
            self._stream("refresh", *_UNASKED)

    def outputs(self) -> dict[str, Any]:
        """Every output, secrets in clear. OpsError (6) where the stack was never brought up, (2) for an unknown one."""
        values = json.loads(self._run("stack", "output", "--json", "--show-secrets")) if self.exists else {}
        self._require_up(values)
        return dict(values)

    def known_outputs(self) -> dict[str, Any]:
        """The outputs that are no secrets, read without a key. OpsError as `outputs`."""
        values = self.public_outputs() if self.exists else {}
        self._require_up(values)
        return values

    def require_known(self) -> None:
        """OpsError (2) for a name that has neither a state nor settings: it was mistyped."""
        if not self.exists:
            self.check_settings()

    def _require_up(self, values: dict[str, Any]) -> None:
        if outputs.POSTGRES not in values:
            self.require_known()
            raise OpsError(
                f"stack {self.name!r} is not up; run `groundwork up --stack {self.name}`", Exit.UNREACHABLE
            )

    def public_outputs(self) -> dict[str, Any]:
        """What `up` shows at its end, from the state's own file: no secret is opened, so no key is derived."""
        for resource in self._latest().get("resources") or []:
            if resource["type"] == "pulumi:pulumi:Stack":
                return dict(resource.get("outputs") or {})
        return {}

    def resource_outputs(self, name: str) -> dict[str, Any]:
        """The outputs of one resource, secrets in clear. OpsError where the stack has none of that name."""
        deployment = json.loads(self._run("stack", "export", "--show-secrets"))
        for resource in deployment["deployment"].get("resources") or []:
            if resource["urn"].rpartition("::")[2] == name:
                return {key: _opened(value) for key, value in resource.get("outputs", {}).items()}
        raise OpsError(f"stack {self.name!r} has no {name} yet; run `groundwork up --stack {self.name}`")

    @property
    def state_file(self) -> Path:
        return self._local.file

    @property
    def _local(self) -> LocalState:
        return LocalState(self.world, self.name)

    @property
    def exists(self) -> bool:
        return self.state_file.exists() if self._is_local else bool(self._latest())

    @property
    def _is_local(self) -> bool:
        return StateBackend.of(self.world).is_local

    def prepare(self) -> StackSettings:
        """What must hold before Pulumi starts: valid settings, a known stack, no lock of a dead process."""
        settings = self.check_settings()
        if settings.target == DOCKER:
            if not self._is_local:
                # Its containers, volumes and rotations are this machine's too.
                raise OpsError(
                    f"stack {self.name!r} is in Docker on this machine, and so is its state; unset {URL}",
                    Exit.USAGE,
                )
            # A taken port is said here, in one line, and not from inside Pulumi.
            take_leases(self.world, self.name, settings)
        ensure_stack(self.world, self.name)
        if self._is_local:
            self._go_on_from_a_killed_run(settings)
        return settings

    def _go_on_from_a_killed_run(self, settings: StackSettings) -> None:
        """Of a run that is gone nothing stands in the way. OpsError (5) where one is at it."""
        self._local.clear_stale_lock()
        self._local.remove_unfinished()
        if settings.target == DOCKER:
            # What was begun on AWS nobody finds again by a label: there Pulumi goes on telling of it.
            self._forget_interrupted()

    def _misses_a_container(self) -> bool:
        """Whether a container that the state knows is gone: by somebody's hand, or by a killed `down`."""
        if not (self._is_local and self.state_file.exists()):
            return False
        resources = self._latest().get("resources") or []
        known = [r["id"] for r in resources if r["type"] == _CONTAINER and "id" in r]
        return bool(known) and len(inspect("container", *known)) < len(known)

    def _policy_pack(self, settings: StackSettings) -> list[str]:
        """On AWS the engine asks the rules too, before it makes each resource; on Docker there are none."""
        folder = self.world.root / "infra" / "policy" / "pack"
        return ["--policy-pack", str(folder)] if settings.target == AWS else []

    def check_settings(self) -> StackSettings:
        """The stack's settings; what is wrong with its file is said before anything starts, in one line."""
        import yaml

        path = self.world.root / f"Pulumi.{self.name}.yaml"
        if not path.is_file():
            ensure_stack(self.world, self.name)  # names the stacks there are
        try:
            values = (yaml.safe_load(path.read_text()) or {}).get("config") or {}
        except yaml.YAMLError as error:
            raise OpsError(f"{path.name} is not valid YAML: {error}", Exit.USAGE) from error
        own = {key: value for key, value in values.items() if key.startswith(f"{PROJECT}:")}
        try:
            return StackSettings.parse(own)
        except SettingError as error:
            raise OpsError(f"{path.name}: {error}", Exit.USAGE) from error

    def _check_passphrase(self) -> None:
        """Say that a passphrase does not open the stack: it must not look like a broken one."""
        if not self._latest():
            return
        try:
            self._run("stack", "output", "--json", "--show-secrets")
        except OpsError as error:
            if "passphrase" in str(error):
                raise OpsError(
                    f"the passphrase in {self.world.passphrase_file} does not open stack {self.name!r};"
                    " put back the one the stack was made with"
                ) from error

    def _forget_interrupted(self) -> None:
        """Drop a killed run's pending operations: the program removes what they left behind by itself."""
        if not self._latest().get("pending_operations"):
            return
        deployment = json.loads(self._run("stack", "export"))
        deployment["deployment"].pop("pending_operations", None)
        self._run("stack", "import", stdin=json.dumps(deployment))

    def _urns_without_data(self) -> list[str]:
        """Containers, networks and what hangs on them: everything but data volumes, secrets and images."""
        resources = self._latest().get("resources") or []
        gone = (_CONTAINER, "pulumi-python:dynamic/docker:Network")
        return [r["urn"] for r in resources if r["type"] in gone]

    def _latest(self) -> dict[str, Any]:
        """The deployment that the state holds; empty before the first one."""
        return self._local.latest() if self._is_local else self._exported()

    def _exported(self) -> dict[str, Any]:
        """The same of a state elsewhere; a stack that nobody made is empty too."""
        try:
            deployment = json.loads(self._run("stack", "export")).get("deployment") or {}
        except OpsError as error:
            if "no stack named" in str(error):
                return {}
            raise
        assert isinstance(deployment, dict)
        return deployment

    def _command(self, *arguments: str, stack: bool = True) -> list[str]:
        return ["pulumi", *arguments, *(["--stack", self.name] if stack else []), "--non-interactive"]

    def _run(self, *arguments: str, stdin: str | None = None, stack: bool = True) -> str:
        done = self._completed(*arguments, stdin=stdin, stack=stack)
        if done.returncode != 0:
            raise OpsError(f"`pulumi {arguments[0]}` failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _completed(
        self, *arguments: str, stdin: str | None = None, stack: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments, stack=stack),
            cwd=self.world.root,
            env=environment(self.world),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def _stream(self, *arguments: str, to_stderr: bool = False, accepted: tuple[int, ...] = (0,)) -> int:
        """Run Pulumi on our own terminal. Ctrl-C reaches it too: it finishes what it is at, and says so."""
        process = subprocess.Popen(
            self._command(*arguments),
            cwd=self.world.root,
            env=environment(self.world),
            stdout=sys.stderr if to_stderr else None,
        )
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, previous)
        if code not in accepted:
            # Only now: to derive the key takes as long as the whole of Pulumi's start.
            self._check_passphrase()
            raise OpsError(
                f"`pulumi {arguments[0]}` failed for stack {self.name!r}; the reason is above,"
                " nothing that was there before is lost, and the same command goes on from here"
            )
        return code


def _opened(value: Any) -> Any:
    """A value of an exported state without the wrapping that says that it is secret."""
    if isinstance(value, dict) and "plaintext" in value:
        return json.loads(value["plaintext"])
    return value

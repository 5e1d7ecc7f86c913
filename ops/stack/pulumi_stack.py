"""Run Pulumi for one stack: up, preview, down, outputs. The stack's resources are defined in infra."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra import atomic_write, outputs
from infra.checkpoint import opened, resources_of, stack_outputs_of
from infra.docker import ownership
from infra.docker.engine import DockerError
from infra.docker.members import forget_retirement, retired_replicas
from infra.docker.network_leases import take_leases
from infra.rotation_file import forget_rotation
from infra.settings import AWS, DOCKER, StackSettings
from infra.spec.checkout import PROJECT, Checkout
from infra.spec.errors import SettingError
from ops.errors import Exit, OpsError
from ops.output import print_line, relay_to_end
from ops.servers.errors import one_line
from ops.stack.final_health import require_healthy
from ops.stack.pulumi_events import await_end, reported_errors, unanswered_ends
from ops.stack.pulumi_state import LocalState, refuse_pending_creates
from ops.stack.recorded import CONTAINER, NETWORK, Recorded
from ops.stack.stopped import start_stopped
from ops.stack.token_keys import refuse_to_lose_keys
from ops.termination import supervised
from ops.toolchain import passphrase
from ops.toolchain.pulumi_environment import environment
from ops.toolchain.stack_init import ensure as ensure_stack
from ops.toolchain.state_backend import URL, StateBackend

# By default Pulumi omits unchanged resources from its JSON, but readers of a preview need the whole stack.
JSON_PREVIEW = ("--json", "--show-sames")
# Pulumi's exit code for changes where none were expected.
_CHANGES = 7
# The beginning of Pulumi's advice to remove a stack, which it prints after destroying everything.
_ADVICE = "The resources in the stack have been deleted"
_LAST_OUTPUT_SECONDS = 5
_UNASKED = ("--yes", "--skip-preview", "--suppress-outputs")


@dataclass(frozen=True)
class PulumiStack:
    """One stack of this checkout."""

    checkout: Checkout
    name: str

    def up(self, *, to_stderr: bool = False) -> None:
        """Create or update the stack. Pulumi prints to the terminal; on failure OpsError points to its diagnostics."""
        settings = self.prepare()
        pack = self._policy_pack(settings)
        recorded = self._recorded()
        if settings.target == DOCKER:
            if settings.postgres_replicas:
                forget_retirement(self.checkout, self.name)
            start_stopped(
                recorded.containers(),
                self.checkout.name(self.name, "postgres"),
                _tell,
                retired=retired_replicas(self.checkout, self.name),
            )
            self._refuse_to_lose_keys(settings)
        lost = recorded.lost_volumes()
        for volume in lost:
            _tell(f"warning: volume {volume} no longer exists, and its data is lost; creating an empty one")
        # Pulumi trusts its state and would not recreate what was removed outside of it.
        refresh = ["--refresh"] if lost or recorded.is_incomplete() else []
        self._stream("up", *_UNASKED, *refresh, *pack, to_stderr=to_stderr)
        if settings.target == DOCKER:
            forget_retirement(self.checkout, self.name)
            self.require_healthy()

    def check_before_up(self) -> None:
        """Run the checks of `up` that come before it changes a server. Raise what `up` does."""
        settings = self.prepare()
        if settings.target == DOCKER:
            self._refuse_to_lose_keys(settings)

    def _refuse_to_lose_keys(self, settings: StackSettings) -> None:
        refuse_to_lose_keys(self.name, self._app_url, self._recorded().token_keys(), settings.token_key_ids)

    def require_healthy(self) -> None:
        """Wait until the stack's containers in Docker are healthy. Raise OpsError if one is not."""
        require_healthy(self.name, self._recorded().containers(), _tell)

    def refuse_pending_creates(self) -> None:
        """Raise OpsError (7) if `up` could not resume after a killed run on AWS."""
        latest = {} if self._is_local and not self.exists else self._latest()
        # A run that is still active is reported by `prepare`.
        if latest.get("pending_operations") and self.prepare().target == AWS:
            refuse_pending_creates(latest, self.name)

    def refresh(self, *, to_stderr: bool = False) -> None:
        """Read the actual resources into the state. Changes no resource."""
        self.prepare()
        self._stream("refresh", *_UNASKED, to_stderr=to_stderr)

    def refresh_images(self) -> str:
        """Set imageRefresh in the stack's file, so that the next `up` rebuilds the images. Return what was done.

        Raises OpsError (2) if the stack uses an image that was built elsewhere.
        """
        if self.prepare().aws_access_image:
            raise OpsError(
                f"stack {self.name!r} does not build its image: groundwork:awsAccessImage names it; build a new one"
                " elsewhere, and change that setting",
                Exit.USAGE,
            )
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._run("config", "set", f"{PROJECT}:imageRefresh", now)
        return f"set groundwork:imageRefresh to {now} in Pulumi.{self.name}.yaml; commit it to keep the new images"

    def preview(self, *arguments: str, expect_no_changes: bool = False) -> None:
        """Show what `up` would change. Raise OpsError (4) for any change if none is expected."""
        pack = self._policy_pack(self.prepare())
        # For JSON, `groundwork policy check` reports the violations instead.
        arguments += () if "--json" in arguments else tuple(pack)
        expected = ["--expect-no-changes"] if expect_no_changes else []
        if self._stream("preview", *arguments, *expected, accepted=(0, _CHANGES)) == _CHANGES:
            raise OpsError(
                f"stack {self.name!r} differs from the program (see above);"
                f" `groundwork up --stack {self.name}` would apply the program",
                Exit.MISMATCH,
            )

    def preview_json(self) -> str:
        """Return Pulumi's JSON of what `up` would change, with unchanged resources, even if the preview failed."""
        self.prepare()
        done = self._completed("preview", *JSON_PREVIEW)
        if not done.stdout.startswith("{"):
            raise OpsError(f"`pulumi preview` failed for stack {self.name!r}: {done.stderr.strip()}")
        return done.stdout

    def down(self, *, volumes: bool) -> None:
        """Destroy the stack. Without `volumes`, the data volumes and the generated secrets are kept."""
        if not self.exists:
            return
        settings = self.check_settings()
        if self._is_local:
            self._go_on_from_a_killed_run(settings)
        if settings.target == DOCKER:
            self._agree_on_containers()
        if volumes:
            self._run("state", "unprotect", "--all", "--yes")
            self._stream("destroy", *_UNASKED, until=_ADVICE)
            # Before the state is removed, because afterwards a second `down` would not get here.
            forget_rotation(self.checkout, self.name)
            ownership.forget_adopted(self.checkout, self.name)
            self._run("stack", "rm", self.name, "--yes", "--preserve-config", stack=False)
            return
        if targets := self._urns_without_data():
            chosen = [argument for urn in targets for argument in ("--target", urn)]
            self._stream("destroy", *_UNASKED, "--target-dependents", *chosen)

    def _agree_on_containers(self) -> None:
        """Remove containers that only Docker knows, which would block the network, and refresh if the state knows a
        missing one, because the provider fails to stop it.
        """
        for name in ownership.remove_leftovers(self.checkout, self.name):
            _tell(f"removed {name}, which an interrupted run had left behind")
        if self._recorded().lacks_a_container():
            self._stream("refresh", *_UNASKED)

    def outputs(self) -> dict[str, Any]:
        """Return all stack outputs with secrets decrypted. Raise OpsError: 6 if never up, 2 for an unknown stack."""
        values = json.loads(self._run("stack", "output", "--json", "--show-secrets")) if self.exists else {}
        self._require_up(values)
        return dict(values)

    def _app_url(self) -> str | None:
        """Return the URL of role app, or None if the stack's first `up` has not ended."""
        return str(self.outputs()[outputs.DATABASE_URLS]["app"]) if self.public_outputs() else None

    def known_outputs(self) -> dict[str, Any]:
        """Return the outputs that are not secret, without decrypting anything. Raises OpsError as `outputs` does."""
        values = self.public_outputs() if self.exists else {}
        self._require_up(values)
        return values

    def require_known(self) -> None:
        """Raise OpsError (2) for a name with neither a state nor settings, i.e. a typing mistake."""
        if not self.exists:
            self.check_settings()

    def refuse_another_state(self) -> None:
        """Raise OwnedByAnother (7) if another state owns resources of the stack in Docker. Pass without an engine."""
        if self.check_settings().target == DOCKER:
            with contextlib.suppress(DockerError):
                ownership.require_own(self.checkout, self.name)

    def _require_up(self, values: dict[str, Any]) -> None:
        if outputs.POSTGRES not in values:
            self.refuse_another_state()
            raise OpsError(
                f"stack {self.name!r} is not up; run `groundwork up --stack {self.name}`", Exit.UNREACHABLE
            )

    def public_outputs(self) -> dict[str, Any]:
        """Return the outputs that `up` shows at its end. They are read from the state file, so no key is derived."""
        return stack_outputs_of(self._latest())

    def resources(self) -> list[dict[str, Any]]:
        """Return the resources in the state. Secret values stay encrypted."""
        return resources_of(self._latest())

    def resource_outputs(self, name: str) -> dict[str, Any]:
        """Return the outputs of a dynamic resource with secrets decrypted. Raise OpsError if it does not exist."""
        deployment = json.loads(self._run("stack", "export", "--show-secrets"))
        for resource in resources_of(deployment["deployment"]):
            if resource["urn"].endswith(f"::{name}") and resource["type"].startswith("pulumi-python:dynamic"):
                return {key: opened(value) for key, value in resource.get("outputs", {}).items()}
        raise OpsError(f"stack {self.name!r} has no {name}; run `groundwork up --stack {self.name}`")

    @property
    def state_file(self) -> Path:
        return self._local.file

    @property
    def _local(self) -> LocalState:
        return LocalState(self.checkout, self.name)

    @property
    def exists(self) -> bool:
        return self.state_file.exists() if self._is_local else bool(self._latest())

    @property
    def _is_local(self) -> bool:
        return StateBackend.of(self.checkout).is_local

    def prepare(self) -> StackSettings:
        """Check the settings, initialize the stack, and clear locks of dead processes, before Pulumi starts."""
        settings = self.check_settings()
        if settings.target == DOCKER:
            if not self._is_local:
                # Its containers, volumes and rotations are on this machine, so its state has to be here too.
                raise OpsError(
                    f"stack {self.name!r} runs in Docker on this machine and needs its state here too; unset {URL}",
                    Exit.USAGE,
                )
            ownership.require_own(self.checkout, self.name)
            # Reported here as one line, and not from inside Pulumi.
            take_leases(self.checkout, self.name, settings)
        ensure_stack(self.checkout, self.name)
        if self._is_local:
            self._go_on_from_a_killed_run(settings)
        return settings

    def _go_on_from_a_killed_run(self, settings: StackSettings) -> None:
        """Clear what a killed run left behind. Raise OpsError (5) if a run is still active."""
        self._local.clear_stale_lock()
        self._local.remove_unfinished()
        if settings.target == DOCKER:
            # On AWS the leftovers carry no label by which the program finds them, so Pulumi keeps reporting them.
            self._forget_interrupted()

    def _recorded(self) -> Recorded:
        """Return the Docker objects in the state. A remote state has none."""
        return Recorded(self.resources() if self._is_local and self.state_file.exists() else [])

    def _policy_pack(self, settings: StackSettings) -> list[str]:
        """Return the options for the policy pack. On AWS it checks each resource before it is created."""
        folder = self.checkout.root / "infra" / "policy" / "pack"
        return ["--policy-pack", str(folder)] if settings.target == AWS else []

    def check_settings(self) -> StackSettings:
        """Parse the stack's settings. A mistake in the file is reported in one line before anything starts."""
        import yaml

        path = self.checkout.root / f"Pulumi.{self.name}.yaml"
        if not path.is_file():
            ensure_stack(self.checkout, self.name)  # Raises, and lists the stacks that exist.
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except UnicodeDecodeError as error:
            raise OpsError(f"{path.name} is not UTF-8: {error}; save it as UTF-8", Exit.USAGE) from error
        except yaml.YAMLError as error:
            raise OpsError(f"{path.name} is not valid YAML: {one_line(error)}", Exit.USAGE) from error
        values = (content.get("config") or {}) if isinstance(content, dict) else None
        if not isinstance(values, dict):
            raise OpsError(
                f"{path.name} is not a stack's file: it needs `config:` and below it lines like"
                f" `{PROJECT}:redisMemory: 128MB`",
                Exit.USAGE,
            )
        own = {key: value for key, value in values.items() if str(key).startswith(f"{PROJECT}:")}
        try:
            return StackSettings.parse(own)
        except SettingError as error:
            raise OpsError(f"{path.name}: {error}", Exit.USAGE) from error

    def _check_passphrase(self) -> None:
        """Raise OpsError if the passphrase does not open the stack, which would look like a damaged stack."""
        if self._latest():
            done = self._completed("stack", "output", "--json", "--show-secrets")
            if done.returncode != 0:
                self._refuse_unreadable(done.stderr)

    def _refuse_unreadable(self, reason: str) -> None:
        """Raise OpsError or InfraError if Pulumi failed, with `reason`, because it cannot read the state."""
        if self._is_local:
            passphrase.require(self.checkout)
            # Raises the error of a damaged file.
            self._local.latest()
        if "passphrase" in reason:
            raise OpsError(
                f"the passphrase in {self.checkout.passphrase_file} does not open stack {self.name!r};"
                " restore the passphrase that the stack was created with"
            )

    def _forget_interrupted(self) -> None:
        """Delete a killed run's pending operations. The program itself removes what they left behind."""
        if not self._latest().get("pending_operations"):
            return
        self.edit_state(lambda deployment: deployment.pop("pending_operations", None) is not None)

    def edit_state(self, change: Callable[[dict[str, Any]], bool], backup: Path | None = None) -> None:
        """Apply `change` to the deployment in the state, and write the result if it returns True.

        The previous state is written to `backup` before.
        """
        text = self._run("stack", "export")
        exported = json.loads(text)
        if change(exported["deployment"]):
            if backup is not None:
                atomic_write.put(backup, text, mode=0o600)
            self._run("stack", "import", stdin=json.dumps(exported))

    def _urns_without_data(self) -> list[str]:
        """Return the URNs of containers and networks. Data volumes, secrets and images are not included."""
        gone = (CONTAINER, NETWORK)
        return [r["urn"] for r in self.resources() if r["type"] in gone]

    def _latest(self) -> dict[str, Any]:
        """Return the deployment in the state, empty before the first one."""
        return self._local.latest() if self._is_local else self._exported()

    def _exported(self) -> dict[str, Any]:
        """Return the deployment of a remote state, empty if the stack does not exist there."""
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
            reason = done.stderr.strip() or done.stdout.strip()
            self._refuse_unreadable(reason)
            raise OpsError(f"`pulumi {arguments[0]}` failed: {reason}")
        return done.stdout

    def _completed(
        self, *arguments: str, stdin: str | None = None, stack: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments, stack=stack),
            cwd=self.checkout.root,
            env=environment(self.checkout),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )

    def _stream(
        self,
        *arguments: str,
        to_stderr: bool = False,
        until: str | None = None,
        accepted: tuple[int, ...] = (0,),
    ) -> int:
        """Run Pulumi on our own terminal and return its exit code. Raises OpsError if it fails or reports an error.

        After Ctrl-C, SIGTERM or SIGHUP, Pulumi finishes the running operations and says so. Output is shown up to the
        text `until`, exclusively.
        """
        target = sys.stderr if to_stderr else sys.stdout
        target.flush()
        # Pulumi writes to a pipe and cannot detect the terminal.
        color = ["--color", "always"] if target.isatty() and not os.environ.get("NO_COLOR") else []
        with tempfile.TemporaryDirectory(prefix="groundwork-pulumi-") as folder:
            events = Path(folder, "events.json")
            command = [*self._command(*arguments), *color, "--event-log", str(events)]
            with supervised(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.checkout.root,
                    # The option --event-log is only available with debug commands.
                    env=environment(self.checkout) | {"PULUMI_DEBUG_COMMANDS": "true"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    # It gets signals from this process only, because a second one makes it stop in the middle.
                    process_group=0,
                )
            ) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                readers = [
                    threading.Thread(target=relay_to_end, args=(process.stdout, target, until), daemon=True),
                    threading.Thread(
                        target=relay_to_end, args=(process.stderr, sys.stderr, None), daemon=True
                    ),
                ]
                for reader in readers:
                    reader.start()
                code = await_end(process, events)
                for reader in readers:
                    # A plugin that outlives Pulumi may keep the pipe open.
                    reader.join(_LAST_OUTPUT_SECONDS)
            errors = reported_errors(events) if code in accepted else []
            unanswered = unanswered_ends(events) if code in accepted else []
        if code not in accepted:
            # Only after a failure, because deriving the key takes as long as starting Pulumi.
            self._check_passphrase()
            raise OpsError(
                f"`pulumi {arguments[0]}` failed for stack {self.name!r}; see the reason above. Existing data is kept;"
                " fix the cause and run the same command again to resume"
            )
        if errors:
            raise OpsError(
                f"`pulumi {arguments[0]}` reported an error for stack {self.name!r}, although it exited with {code}:"
                f" {errors[0]}; run the same command again to resume"
            )
        for plugin in unanswered:
            print_line(
                f"groundwork: ignoring the error about {plugin} above: its work was done, and it did not answer in time"
                " when Pulumi asked it to end",
                err=True,
            )
        return code


def _tell(line: str) -> None:
    print_line(line, err=True)

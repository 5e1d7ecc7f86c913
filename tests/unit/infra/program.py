"""The Docker program run against a recording engine: what it registers, with which options and outputs.

No engine, no provider and no Docker: a resource's outputs are its inputs, generated secrets are canaries, and
what a program declares secret comes back secret, as from the real engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc

from infra.docker.leases import Leases
from infra.docker.stack import DockerStack
from infra.settings import StackSettings
from infra.spec.rotation import Rotation
from infra.spec.world import World

CANARY = "canary"
CONTAINER = "docker:index/container:Container"
NETWORK = "pulumi-python:dynamic/docker:Network"
VOLUME = "docker:index/volume:Volume"
LEASES = Leases(postgres=21001, redis=21002, access=21003, prometheus=21004, subnet="10.201.7.0/24")
_SECRET = {rpc._special_sig_key: rpc._special_secret_sig}


@dataclass(frozen=True)
class Resource:
    """A registration: `inputs` as they went over the wire (secrets in their wrapping), and its options."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    delete_before_replace: bool
    protect: bool
    ignore_changes: frozenset[str]


@dataclass
class Program:
    """Everything a run registered, and what it exported: name -> (value, whether it is secret)."""

    world: World
    resources: list[Resource] = field(default_factory=list)
    exports: dict[str, tuple[Any, bool]] = field(default_factory=dict)

    async def collect(self, outputs: dict[str, Any]) -> None:
        """Take in what the run exports."""
        for name, output in outputs.items():
            resolved: pulumi.Output[Any] = pulumi.Output.from_input(output)
            self.exports[name] = (await resolved.future(), await resolved.is_secret())

    def of_type(self, type_: str) -> dict[str, Resource]:
        return {r.name: r for r in self.resources if r.type == type_}


class Monitor(mocks.MockMonitor):
    """Writes into a program what is registered; `outputs` answers for the provider."""

    def __init__(self, program: Program, outputs: mocks.Mocks) -> None:
        super().__init__(outputs)
        self.program = program

    def RegisterResource(self, request: Any) -> Any:
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != "pulumi:pulumi:Stack":
            self.program.resources.append(
                Resource(
                    urn=response.urn,
                    type=request.type,
                    name=request.name,
                    inputs=json_format.MessageToDict(request.object),
                    delete_before_replace=request.deleteBeforeReplace,
                    protect=request.protect,
                    ignore_changes=frozenset(request.ignoreChanges),
                )
            )
        for key in request.additionalSecretOutputs:
            given = json_format.MessageToDict(response.object).get(key)
            if given is None:
                given = "00" * 16 if key == "salt" else f"{CANARY}-{request.name}-{key}"
            if not (isinstance(given, dict) and _SECRET.items() <= given.items()):
                response.object[key] = _SECRET | {"value": given}
        if "private_key" in request.additionalSecretOutputs:
            response.object["certificate"] = f"certificate of {request.name}"
        return response


class _Outputs(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = dict(args.inputs)
        if args.typ.endswith(":RemoteImage"):
            outputs["imageId"] = f"sha256:{args.name}"
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program calls {args.token}; it is to read nothing from a provider")


def run_program(
    folder: Path,
    key: str = "0a1b2c",
    rotation: Rotation | None = None,
    has_metrics: bool = False,
    **settings: Any,
) -> Program:
    """Declare the Docker stack `unit` with these settings; `folder` is its state."""
    root = Path(__file__).parents[3]
    program = Program(World(root=root, key=key, state_dir=folder, cache_dir=folder))
    monitor = Monitor(program, _Outputs())
    # Pulumi asks for the thread's event loop, and asyncio.run() of an earlier test takes it away.
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(
        monitor.mocks, project="groundwork", stack="unit", preview=False, monitor=monitor
    )

    @mocks.test  # type: ignore[untyped-decorator]
    def declare() -> Any:
        parsed = StackSettings.parse(settings)
        stack = DockerStack(
            program.world, "unit", parsed, LEASES, rotation or Rotation(), has_metrics=has_metrics
        )
        return program.collect(stack.declare())

    declare()
    return program


def plain_texts(value: Any) -> Iterator[str]:
    """Every text of a registration's inputs that is not inside a secret."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from plain_texts(item)
    elif isinstance(value, dict) and value.get(rpc._special_sig_key) != rpc._special_secret_sig:
        for key, item in value.items():
            # The pickled provider is code; it is asked for its secrets elsewhere.
            yield from () if key == "__provider" else plain_texts(item)


def all_texts(value: Any) -> Iterator[str]:
    """Every text of a registration's inputs, the secret ones too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from all_texts(item)

"""Run the Docker program against a recording engine, which stores the registered resources, options and outputs.

There is no engine, provider or Docker. The outputs of a resource are its inputs, generated secrets are canaries, and
values that the program declares secret are returned as secrets, as by the real engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc

from infra.docker.members import ClusterState
from infra.docker.network_leases import NetworkLeases
from infra.docker.stack import DockerStack
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from infra.spec.rotation import Rotation

CANARY = "canary"
CONTAINER = "docker:index/container:Container"
IMAGE = "pulumi-python:dynamic/docker:Image"
NETWORK = "pulumi-python:dynamic/docker:Network"
VOLUME = "docker:index/volume:Volume"
LEASES = NetworkLeases(
    postgres=21001,
    redis=21002,
    access=21003,
    prometheus=21004,
    subnet="10.201.7.0/24",
    postgres_2=21007,
    postgres_3=21008,
)
REPLICATED_LEASES = replace(LEASES, redis_2=21005, redis_3=21006)
_SECRET = {rpc._special_sig_key: rpc._special_secret_sig}


@dataclass(frozen=True)
class Resource:
    """A registered resource: `inputs` as sent to the engine (with wrapped secrets), and its options."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    delete_before_replace: bool
    protect: bool
    ignore_changes: frozenset[str]
    # The URNs of the resources that come first.
    depends_on: frozenset[str]


@dataclass
class Program:
    """The resources that a run registered, and its exports: name -> (value, whether it is secret)."""

    checkout: Checkout
    resources: list[Resource] = field(default_factory=list)
    exports: dict[str, tuple[Any, bool]] = field(default_factory=dict)

    async def collect(self, outputs: dict[str, Any]) -> None:
        """Collect the exports of a run."""
        for name, output in outputs.items():
            resolved: pulumi.Output[Any] = pulumi.Output.from_input(output)
            self.exports[name] = (await resolved.future(), await resolved.is_secret())

    def of_type(self, type_: str) -> dict[str, Resource]:
        return {r.name: r for r in self.resources if r.type == type_}


class Monitor(mocks.MockMonitor):
    """Records registrations in a program. `outputs` answers for the provider."""

    def __init__(self, program: Program, outputs: mocks.Mocks) -> None:
        super().__init__(outputs)
        self.program = program

    def Invoke(self, request: Any) -> Any:
        with event_loop():
            return super().Invoke(request)  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: Any) -> Any:
        with event_loop():
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
                    depends_on=frozenset(request.dependencies),
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
        if args.typ == IMAGE:
            outputs["image_id"] = f"sha256:{args.name}"
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program calls {args.token}; it is to read nothing from a provider")


def run_program(
    folder: Path,
    key: str = "0a1b2c",
    rotation: Rotation | None = None,
    has_metrics: bool = False,
    cluster: ClusterState | None = None,
    redis_primary: str | None = None,
    leases: NetworkLeases | None = None,
    **settings: Any,
) -> Program:
    """Declare the Docker stack `unit` with these settings. `folder` contains its state."""
    root = Path(__file__).parents[3]
    program = Program(Checkout(root=root, key=key, state_dir=folder, cache_dir=folder))
    monitor = Monitor(program, _Outputs())
    with event_loop():
        pulumi.runtime.set_mocks(
            monitor.mocks, project="groundwork", stack="unit", preview=False, monitor=monitor
        )

        @mocks.test  # type: ignore[untyped-decorator]
        def declare() -> Any:
            parsed = StackSettings.parse(settings)
            stack = DockerStack(
                program.checkout,
                "unit",
                parsed,
                leases or (REPLICATED_LEASES if parsed.redis_replicas else LEASES),
                rotation or Rotation(),
                has_metrics=has_metrics,
                cluster=cluster or ClusterState(),
                redis_primary=redis_primary,
            )
            return program.collect(stack.declare())

        declare()
    return program


@contextmanager
def event_loop() -> Iterator[None]:
    """Set an event loop for this thread in the block, because Pulumi would create one per thread and close none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def plain_texts(value: Any) -> Iterator[str]:
    """Return every text in a resource's inputs that is not inside a secret."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from plain_texts(item)
    elif isinstance(value, dict) and value.get(rpc._special_sig_key) != rpc._special_secret_sig:
        for key, item in value.items():
            # The pickled provider is code. Another test checks that it contains no secrets.
            yield from () if key == "__provider" else plain_texts(item)


def all_texts(value: Any) -> Iterator[str]:
    """Return every text in a resource's inputs, including the secret ones."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from all_texts(item)

"""Call the plugin without the engine, with requests of Pulumi's protocol."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import struct_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from tests.unit.infra.program import Resource

_SCHEMA_BYTES = 2**24


@contextmanager
def running(folder: Path, environment: Mapping[str, str]) -> Iterator[Any]:
    """Start the plugin in a folder with additional variables, and yield a client for it."""
    # The plugin connects to the engine's address only when it has something to log.
    command = [str(folder / "pulumi-resource-aws"), "127.0.0.1:9"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        assert process.stdout is not None
        address = f"127.0.0.1:{process.stdout.readline().strip()}"
        options = [("grpc.max_receive_message_length", _SCHEMA_BYTES)]
        with grpc.insecure_channel(address, options=options) as channel:
            yield provider_pb2_grpc.ResourceProviderStub(channel)
        process.terminate()


def refusals(plugin: Any, resource: Resource) -> list[str]:
    """Return why the provider would not create a resource. It is checked and planned, as in a preview."""
    inputs = struct_pb2.Struct()
    inputs.update(without_secrets(resource.inputs))
    try:
        checked = plugin.Check(provider_pb2.CheckRequest(urn=resource.urn, news=inputs))
        if checked.failures:
            return [f"{resource.name}: {each.property}: {each.reason}" for each in checked.failures]
        plugin.Create(provider_pb2.CreateRequest(urn=resource.urn, properties=checked.inputs, preview=True))
    except grpc.RpcError as error:
        return [f"{resource.name}: {error.details()}"]
    return []


def without_secrets(value: Any) -> Any:
    """Return a value without Pulumi's wrappers of secrets."""
    if isinstance(value, dict):
        if rpc._special_sig_key in value:
            return without_secrets(value["value"])
        return {key: without_secrets(item) for key, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value

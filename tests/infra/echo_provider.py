"""An `aws` provider without AWS: it accepts every resource and adds the properties that AWS would compute.

The provider is stateless, because the engine sends the resource with each call. One process serves all engines of a
test: the plugin that an engine starts only names its port. Importing pulumi takes a second of CPU time.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.aws_outputs import IDENTITY, computed
from tests.infra.aws import echo_rds
from tests.infra.checkout import ROOT

VERSION = "7.51.1"
# Properties that AWS cannot change in place, by type. All others are changed in place.
REPLACING: dict[str, frozenset[str]] = {
    "aws:rds/instance:Instance": frozenset({"engine", "username", "kmsKeyId", "storageEncrypted"}),
    "aws:elasticache/replicationGroup:ReplicationGroup": frozenset(
        {"replicationGroupId", "atRestEncryptionEnabled", "kmsKeyId", "subnetGroupName", "port"}
    ),
    "aws:ec2/vpc:Vpc": frozenset({"cidrBlock"}),
    "aws:ec2/subnet:Subnet": frozenset({"cidrBlock", "availabilityZone", "vpcId"}),
    "aws:ec2/securityGroup:SecurityGroup": frozenset({"description", "vpcId", "name"}),
    "aws:ecs/taskDefinition:TaskDefinition": frozenset({"containerDefinitions", "cpu", "memory", "family"}),
}
# A variable: how long the provider takes to confirm that it will end.
CANCEL_SECONDS = "GROUNDWORK_TEST_CANCEL_SECONDS"
# The provider's internal properties, which are ignored in a diff.
_OWN = ("__defaults", "__internal")


class EchoProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The methods of pulumirpc.ResourceProvider that the engine calls."""

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=True, accept_resources=True, accept_outputs=True
        )

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
        )

    def Check(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, context: Any) -> Any:
        old, new = json_format.MessageToDict(request.old_inputs), json_format.MessageToDict(request.news)
        changed = sorted(key for key in {*old, *new} if key not in _OWN and old.get(key) != new.get(key))
        replacing = REPLACING.get(type_of(request.urn), frozenset())
        kinds = provider_pb2.DiffResponse
        return provider_pb2.DiffResponse(
            changes=kinds.DIFF_SOME if changed else kinds.DIFF_NONE,
            diffs=changed,
            replaces=[key for key in changed if key in replacing],
        )

    def Create(self, request: Any, context: Any) -> Any:
        name = request.urn.rpartition("::")[2]
        properties = request.properties
        if request.preview:
            return provider_pb2.CreateResponse(properties=properties)
        type_ = type_of(request.urn)
        found = with_computed(properties, type_, name)
        if echo_rds.is_enabled(type_):
            resource_id, added = echo_rds.create(json_format.MessageToDict(properties))
            found.update(added)
            return provider_pb2.CreateResponse(id=resource_id, properties=found)
        return provider_pb2.CreateResponse(id=f"{name}-id", properties=found)

    def Update(self, request: Any, context: Any) -> Any:
        name, type_ = request.urn.rpartition("::")[2], type_of(request.urn)
        found = with_computed(request.news, type_, name)
        if echo_rds.is_enabled(type_):
            inputs = None if request.preview else json_format.MessageToDict(request.news)
            found.update(echo_rds.update(request.id, inputs))
        return provider_pb2.UpdateResponse(properties=found)

    def Read(self, request: Any, context: Any) -> Any:
        if echo_rds.is_enabled(type_of(request.urn)):
            existing = echo_rds.read(request.id)
            if existing is None:
                return provider_pb2.ReadResponse(id="")
            actual, added = existing
            properties, inputs = request.properties, request.inputs
            properties.update(actual | added)
            # Like the real provider, which reads only the inputs that the program gives.
            inputs.update({key: value for key, value in actual.items() if key in inputs})
            return provider_pb2.ReadResponse(id=request.id, properties=properties, inputs=inputs)
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def Delete(self, request: Any, context: Any) -> Any:
        if echo_rds.is_enabled(type_of(request.urn)):
            echo_rds.delete(request.id)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        if request.tok != "aws:index/getCallerIdentity:getCallerIdentity":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{request.tok} is not echoed")
        answer = struct_pb2.Struct()
        answer.update(IDENTITY)
        return provider_pb2.InvokeResponse(**{"return": answer})

    def Cancel(self, request: Any, context: Any) -> Any:
        time.sleep(float(os.environ.get(CANCEL_SECONDS, "0")))
        return empty_pb2.Empty()

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()


@contextmanager
def installed(folder: Path, **environment: str) -> Iterator[None]:
    """Run the provider with these variables, and install a plugin. The engine uses it if `folder` is first on PATH.

    If CANCEL_SECONDS is set for the engine, the plugin is a provider of its own.
    """
    folder.mkdir()
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        plugin = folder / "pulumi-resource-aws"
        plugin.write_text(
            f"""#!/bin/sh
[ -z "${CANCEL_SECONDS}" ] || PYTHONPATH="{ROOT}" exec {shlex.join(command)}
echo {port}
exec sleep infinity
"""
        )
        plugin.chmod(0o755)
        try:
            yield
        finally:
            process.kill()


def type_of(urn: str) -> str:
    """`urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME` -> TYPE."""
    return urn.split("::")[2].rpartition("$")[2]


def with_computed(inputs: Any, type_: str, name: str) -> Any:
    """Return the inputs and what AWS adds. Inputs win, for example a name that the program chose."""
    found = struct_pb2.Struct()
    found.update(computed(type_, name))
    found.MergeFrom(inputs)
    for key in inputs.fields:
        found.fields[key].CopyFrom(inputs.fields[key])
    return found


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(EchoProvider(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(signal.SIGINT, lambda *_: server.stop(0))
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    # The engine waits for this line.
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

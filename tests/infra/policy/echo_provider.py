"""Stands in for the plugin of aws: takes every resource, gives its inputs back, and makes up an id and an ARN.

Run by the engine as `pulumi-resource-aws`; an engine change of RDS is one that it makes anew, as AWS does.
"""

from __future__ import annotations

import signal
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

ACCOUNT = "123456789012"
REPLACING = frozenset({"engine", "kmsKeyId"})


class Echo(provider_pb2_grpc.ResourceProviderServicer):
    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=True, accept_resources=True, accept_outputs=True
        )

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="7.51.1")

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
        old, new = dict(request.old_inputs), dict(request.news)
        diffs = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        kind = provider_pb2.DiffResponse.DIFF_SOME if diffs else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=kind, diffs=diffs, replaces=[key for key in diffs if key in REPLACING]
        )

    def Create(self, request: Any, context: Any) -> Any:
        outputs = struct_pb2.Struct()
        outputs.CopyFrom(request.properties)
        name = request.urn.rpartition("::")[2]
        if request.preview:
            return provider_pb2.CreateResponse(properties=outputs)
        outputs["arn"] = f"{name}-arn"
        return provider_pb2.CreateResponse(id=f"{name}-id", properties=outputs)

    def Update(self, request: Any, context: Any) -> Any:
        outputs = struct_pb2.Struct()
        outputs.CopyFrom(request.news)
        outputs["arn"] = request.urn.rpartition("::")[2] + "-arn"
        return provider_pb2.UpdateResponse(properties=outputs)

    def Invoke(self, request: Any, context: Any) -> Any:
        """Who asks, and where: all that the program asks of AWS."""
        answer = struct_pb2.Struct()
        answer.update({"id": ACCOUNT, "accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:user/test"})
        answer["partition"] = "aws"
        return provider_pb2.InvokeResponse(**{"return": answer})

    def Delete(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Echo(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main()

"""The provider has each property of each resource that the program declares, in the form that the program sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from tests.infra.aws_provider.plugin import running, without_secrets
from tests.promises import promise
from tests.unit.infra.aws.program import EXISTING_VPC, run_aws_program


@pytest.fixture(scope="module")
def schema(plugins: Path) -> dict[str, Any]:
    with running(plugins, {}) as plugin:
        found: dict[str, Any] = json.loads(plugin.GetSchema(provider_pb2.GetSchemaRequest()).schema)
    return found


@promise("the real AWS provider accepts the program's properties")
@pytest.mark.parametrize(
    "settings",
    [
        {"postgresReplicas": "1", "awsAlarmEmail": "ops@example.com"},
        {**EXISTING_VPC, "awsVpcEndpoints": "false"},
    ],
    ids=["own network, replicas", "existing VPC"],
)
def test_the_schema_has_every_property_that_the_program_sends(
    schema: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    program = run_aws_program(tmp_path, **settings)
    declared = [each for each in program.resources if each.type.startswith("aws:")]
    assert len(declared) > 80
    assert [
        problem for each in declared for problem in problems(schema, each.type, without_secrets(each.inputs))
    ] == []


@promise("the real AWS provider accepts the program's properties", control=True)
def test_property_that_the_schema_lacks_is_reported(schema: dict[str, Any]) -> None:
    kind = "aws:rds/instance:Instance"
    assert list(problems(schema, kind, {"colour": "blue"})) == [f"{kind} colour: unknown"]
    assert list(problems(schema, kind, {"engine": ["postgres"]})) == [f"{kind} engine: list or not"]
    assert list(problems(schema, kind, {"restoreToPointInTime": {"when": "now"}})) == [
        f"{kind} restoreToPointInTime.when: unknown"
    ]
    assert list(problems(schema, "aws:rds/cluster:Cluster", {})) == ["aws:rds/cluster:Cluster: unknown"]


def problems(schema: dict[str, Any], kind: str, inputs: dict[str, Any]) -> Iterator[str]:
    """Yield the properties of a resource that the schema lacks, or whose form differs from the schema's."""
    if kind not in schema["resources"]:
        yield f"{kind}: unknown"
        return
    yield from _problems(schema, schema["resources"][kind]["inputProperties"], inputs, f"{kind} ")


def _problems(
    schema: dict[str, Any], properties: dict[str, Any], inputs: dict[str, Any], where: str
) -> Iterator[str]:
    for name, value in inputs.items():
        if name not in properties:
            yield f"{where}{name}: unknown"
            continue
        items = value if isinstance(value, list) else [value]
        if isinstance(value, list) != (properties[name].get("type") == "array"):
            yield f"{where}{name}: list or not"
            continue
        reference = properties[name].get("items", properties[name]).get("$ref")
        if reference is not None:
            of_type = schema["types"][reference.removeprefix("#/types/")]["properties"]
            for item in items:
                yield from _problems(schema, of_type, item, f"{where}{name}.")

"""The provider accepts the properties of the program's resources, with random settings that groundwork accepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import Phase, given, seed
from hypothesis import settings as run
from hypothesis import strategies as st
from pulumi.runtime.proto import provider_pb2

from tests.aws_outputs import REGION
from tests.infra.aws_provider.plugin import refusals, running
from tests.promises import promise
from tests.scale import scaled
from tests.unit.infra.aws.models import drawn
from tests.unit.infra.aws.program import TYPES, run_aws_program


@pytest.fixture(scope="module")
def plugin(plugins: Path, endpoint: str) -> Iterator[Any]:
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with running(plugins, environment) as client:
        client.Configure(provider_pb2.ConfigureRequest(args=struct_pb2.Struct()))
        yield client


@promise("the real AWS provider accepts the program's properties")
def test_properties_are_accepted_with_random_settings(
    plugin: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @seed(0)
    # No shrinking: the message names the resource and the reason, so a smaller example would not help.
    @run(max_examples=scaled(4, 40), database=None, deadline=None, phases=[Phase.generate])
    @given(chosen=drawn.settings(), stack=st.sampled_from(drawn.STACKS))
    def check(chosen: dict[str, Any], stack: str) -> None:
        program = run_aws_program(tmp_path_factory.mktemp("state"), stack, **chosen)
        resources = [each for each in program.resources if each.type.startswith("aws:")]
        assert [problem for each in resources for problem in refusals(plugin, each)] == []

    check()


@promise("the real AWS provider accepts the program's properties", control=True)
@pytest.mark.parametrize(
    ("kind", "property_name", "value"),
    [
        ("instance", "backupWindow", "25:00-26:00"),
        ("replication group", "transitEncryptionMode", "sometimes"),
        ("log group", "retentionInDays", 8),
        ("alarm", "comparisonOperator", "Larger"),
    ],
)
def test_a_wrong_value_is_refused(
    plugin: Any, tmp_path: Path, kind: str, property_name: str, value: object
) -> None:
    resource = next(each for each in run_aws_program(tmp_path).resources if each.type == TYPES[kind])
    assert property_name in resource.inputs
    assert refusals(plugin, resource) == []
    assert len(refusals(plugin, replace(resource, inputs={**resource.inputs, property_name: value}))) == 1

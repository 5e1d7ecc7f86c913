"""Declares the stack of tests.policy_stack that the file in POLICY_STACK holds, pickled."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pulumi

from infra.policy.value import UNKNOWN
from tests.policy_stack import Declared, Ref, Secret

made: dict[str, Any] = {}


def value_of(value: Any) -> Any:
    if isinstance(value, Ref):
        return getattr(made[value.name], value.output)
    if isinstance(value, Secret):
        return pulumi.Output.secret(value.value)
    if value is UNKNOWN:
        # True once the resource declared just before is there: it has no id before it is made.
        return list(made.values())[-1].id.apply(lambda _: True)
    if isinstance(value, list):
        return [value_of(item) for item in value]
    if isinstance(value, dict):
        return {key: value_of(item) for key, item in value.items()}
    return value


def declare(each: Declared) -> pulumi.CustomResource:
    properties = {key: value_of(value) for key, value in each.properties.items()}
    options = pulumi.ResourceOptions(protect=each.protect, version="7.51.1")
    return pulumi.CustomResource(each.type, each.name, {**properties, "arn": None}, options)


for each in pickle.loads(Path(os.environ["POLICY_STACK"]).read_bytes()):
    made[each.name] = declare(each)

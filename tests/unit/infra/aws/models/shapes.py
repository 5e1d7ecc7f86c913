"""Check a request against a shape of botocore's API models.

Names, types, enums, lengths, ranges, patterns and required members are checked. botocore itself ignores enums, patterns
and maximums.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

_TYPES: dict[str, tuple[type[Any], ...]] = {
    "string": (str,),
    "blob": (str, bytes),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
}


@cache
def service(name: str) -> ServiceModel:
    """Return the model of a service. Reading one takes up to a second of CPU time."""
    return _session().get_service_model(name)


@cache
def _session() -> botocore.session.Session:
    return botocore.session.Session()


def problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Yield why the API would refuse a value."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is not a structure"
            return
        for name in shape.required_members:
            if name not in value:
                yield f"{path}.{name}: is required"
        for name, member in value.items():
            if name not in shape.members:
                yield f"{path}.{name}: no such member"
            else:
                yield from problems(member, shape.members[name], f"{path}.{name}")
        return
    if isinstance(shape, ListShape | MapShape):
        yield from _collection(value, shape, path)
        return
    if not isinstance(value, _TYPES[shape.type_name]) or (
        isinstance(value, bool) and shape.type_name != "boolean"
    ):
        yield f"{path}: {value!r} is not a {shape.type_name}"
        return
    yield from _scalar(value, shape, path)


def _collection(value: Any, shape: ListShape | MapShape, path: str) -> Iterator[str]:
    if not isinstance(value, list if isinstance(shape, ListShape) else dict):
        yield f"{path}: {value!r} is not a {shape.type_name}"
        return
    yield from _size(len(value), shape, path)
    if isinstance(shape, ListShape):
        for number, item in enumerate(value):
            yield from problems(item, shape.member, f"{path}[{number}]")
    else:
        for key, item in value.items():
            yield from problems(key, shape.key, f"{path}.{key}")
            yield from problems(item, shape.value, f"{path}.{key}")


def _scalar(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if isinstance(value, str):
        yield from _size(len(value), shape, path)
        values = getattr(shape, "enum", [])
        if values and value not in values:
            yield f"{path}: {value!r} is none of {', '.join(values)}"
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(_for_python(pattern), value, re.DOTALL):
            yield f"{path}: {value!r} does not match {pattern}"
    elif not isinstance(value, bool):
        yield from _size(value, shape, path)


def _size(amount: float, shape: Shape, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and amount < least) or (most is not None and amount > most):
        yield f"{path}: {amount} is not from {least} to {most}"


def _for_python(pattern: str) -> str:
    """Translate what Java's regular expressions have and Python's do not. AWS's models use these alone."""
    for java, python in ((r"\p{L}", "a-zA-Z"), (r"\p{Z}", r"\s"), (r"\p{N}", "0-9"), (r"\p{M}", "")):
        pattern = pattern.replace(java, python)
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: re.escape(chr(int(code[1], 16))), pattern)


def enums(
    shape: Shape, member: str = "", seen: frozenset[str] = frozenset()
) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the name of each member inside a shape that is an enum, with the enum's values."""
    if shape.name in seen:
        return
    seen |= {shape.name}
    if isinstance(shape, StructureShape):
        for name, inner in shape.members.items():
            yield from enums(inner, name, seen)
    elif isinstance(shape, ListShape):
        yield from enums(shape.member, member, seen)
    elif values := getattr(shape, "enum", []):
        yield member, frozenset(values)


def sent_enums(value: Any, shape: Shape, member: str = "") -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield the name and the value of each enum in a request, with all values of the enum."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        for name, inner in value.items():
            if name in shape.members:
                yield from sent_enums(inner, shape.members[name], name)
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for item in value:
            yield from sent_enums(item, shape.member, member)
    elif isinstance(value, str) and (values := getattr(shape, "enum", [])):
        yield member, value, frozenset(values)

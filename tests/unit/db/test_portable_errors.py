"""Errors and models cross processes: pickle and copy.deepcopy keep their class, message and attributes."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pickle
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest

import cache
import db
import ops
from db.errors import NotFound
from infra.spec.errors import PortableError
from tests.cases import in_case
from tests.promises import promise

# Never raised to callers: db.translation turns it into an error of db.errors.
INTERNAL = {
    "db.translation.DeadlinePassed",
    "db.translation.NotReplicated",
    "db.translation.ServerDemoted",
}
SAMPLES: dict[Any, Any] = {
    int: 7,
    str: "text",
    float: 0.5,
    bool: True,
    object: 7,
    Path: Path("x.sql"),
    datetime: datetime(2026, 1, 2, tzinfo=UTC),
    bytes: b"\0",
}


def _import_all(package: types.ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        # Running it is the command line.
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _of(packages: tuple[str, ...], kind: type[Any]) -> list[type[Any]]:
    found = {each for each in _subclasses(kind) if each.__module__.partition(".")[0] in packages}
    return sorted(found, key=lambda each: (each.__module__, each.__qualname__))


for _package in (cache, db, ops):
    _import_all(_package)
ERRORS = _of(("cache", "db", "infra", "ops"), PortableError)
PUBLIC = [each for each in ERRORS if each.__module__ in ("db.errors", "cache.errors")]
MODELS = _of(("cache", "db"), msgspec.Struct)


def _sample(annotation: Any) -> Any:
    """Return a value of this type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return next(_sample(each) for each in arguments if each is not type(None))
    if origin is typing.Literal:
        return arguments[0]
    if origin is not None:
        return {"a": [1, {"b": None}]} if origin is dict else origin([7])
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return next(iter(annotation))
    return SAMPLES.get(annotation, "text")


def _made(kind: type[Any]) -> Any:
    """Call a class with a value for each parameter, and set an attribute as a handler would."""
    if kind.__init__ is Exception.__init__:
        return kind("text")
    hints = typing.get_type_hints(kind.__init__)
    positional, named = [], {}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = _sample(hints.get(name, str))
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value
        else:
            positional.append(value)
    return kind(*positional, **named)


def _attributes(error: Exception) -> dict[str, Any]:
    names = {name for each in type(error).__mro__ for name in getattr(each, "__annotations__", ())}
    return {name: getattr(error, name, None) for name in {*names, *vars(error)}} | {
        "args": error.args,
        "str": str(error),
        "type": type(error),
    }


COPIES: tuple[Callable[[Any], Any], ...] = (
    *(
        lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(2, 6)
    ),
    copy.deepcopy,
    copy.copy,
)


@promise("errors and records survive pickle and `copy.deepcopy` with equal attributes")
def test_an_error_survives_with_equal_attributes() -> None:
    for kind in ERRORS:
        with in_case(kind):
            error = _made(kind)
            error.add_note("seen in the request of a customer")
            for duplicate in COPIES:
                assert _attributes(duplicate(error)) == _attributes(error)


def test_celery_restores_an_error_from_json() -> None:
    """As celery.backends.base does: from the names of module and class, and `args`."""
    for kind in PUBLIC:
        with in_case(kind):
            error = _made(kind)
            restored = kind(*json.loads(json.dumps(error.args)))
            assert (type(restored), str(restored), restored.args) == (kind, str(error), error.args)


@promise("errors and records survive pickle and `copy.deepcopy` with equal attributes")
def test_a_model_survives_with_equal_fields() -> None:
    assert len(MODELS) > 10
    for kind in MODELS:
        with in_case(kind):
            hints = typing.get_type_hints(kind)
            full = kind(**{name: _sample(hints[name]) for name in kind.__struct_fields__})
            least = kind(
                **{
                    field.name: _sample(hints[field.name])
                    for field in msgspec.structs.fields(kind)
                    if field.required
                }
            )
            for model in (full, least):
                for duplicate in COPIES:
                    assert duplicate(model) == model
                    assert type(duplicate(model)) is kind


def test_every_error_of_the_data_access_is_portable() -> None:
    own = {
        f"{kind.__module__}.{kind.__qualname__}": kind
        for kind in _of(("cache", "db"), Exception)
        if not kind.__qualname__.startswith("_")
    }
    assert {name for name, kind in own.items() if not issubclass(kind, PortableError)} == INTERNAL
    assert len(ERRORS) > 40


def _fails() -> None:
    raise NotFound("user", 7)


def test_an_error_reaches_the_caller_of_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        future = processes.submit(_fails)
        with pytest.raises(NotFound) as caught:
            future.result(timeout=60)
    assert (caught.value.entity, caught.value.key) == ("user", 7)
    assert str(caught.value) == "no user with 7"


@promise("errors and records survive pickle and `copy.deepcopy` with equal attributes", control=True)
def test_plain_exceptions_of_the_same_form_cannot_be_unpickled() -> None:
    """The negative control: `args` hold the message, and the constructor takes two arguments."""
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pickle.loads(pickle.dumps(_Plain("user", 7)))


class _Plain(Exception):
    def __init__(self, entity: str, key: object) -> None:
        super().__init__(f"no {entity} with {key}")

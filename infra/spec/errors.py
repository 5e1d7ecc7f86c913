"""The root of every package's errors, the root of infra's errors, and the error for a bad setting."""

from __future__ import annotations

from typing import Any


class PortableError(Exception):
    """An error that survives pickle and copy.deepcopy with equal attributes, whatever its constructor takes.

    Plain exceptions are restored by calling the constructor with `args`, without its keyword arguments.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[PortableError], args: tuple[object, ...], attributes: dict[str, Any]
) -> PortableError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InfraError(PortableError):
    """The infrastructure cannot be provisioned as requested."""


class UnreadableFile(InfraError):
    """A file that the user named cannot be read, is not text, or is too large."""


class Unreachable(InfraError):
    """Something that has to be asked does not answer, so nothing is known about it."""


class SettingError(InfraError):
    """A setting has an invalid value.

    `key` is the setting's full name (`groundwork:redisMaxmemory`), `fix` one sentence on what to do.
    """

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}; {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix

"""The source of a connection string: an environment variable or a file.

The file is read for every new connection, so that a rotated password is used without a restart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.spec.variables import variable as given


@dataclass(frozen=True)
class UrlSource:
    """A connection string as a value or as the file that contains it.

    `variable` is its name in messages. `error` is the class of the exceptions raised.
    """

    variable: str
    error: type[Exception]
    value: str | None = field(default=None, repr=False)
    file: Path | None = None

    @classmethod
    def from_environment(
        cls, variable: str, error: type[Exception], environment: Mapping[str, str] | None = None
    ) -> UrlSource:
        """Return the source that `variable` or `variable`_FILE names. Raises `error` if none or both are set."""
        environment = os.environ if environment is None else environment
        value, file = (
            given(variable, environment, error),
            given(f"{variable}_FILE", environment, error),
        )
        if value and file:
            raise error(f"{variable} and {variable}_FILE are both set; keep one of them")
        if not value and not file:
            raise error(
                f"neither {variable} nor {variable}_FILE is set;"
                " `groundwork env` prints the connection strings of a stack"
            )
        return cls(variable, error, value, Path(file) if file else None)

    def read(self) -> str:
        """Return the current connection string. Raises `error` if the file cannot be read or is empty."""
        if self.file is None:
            assert self.value is not None
            return self.value
        try:
            text = self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise self.error(f"{self.variable}_FILE: cannot read {self.file}: {reason}") from error
        if not text:
            raise self.error(
                f"{self.variable}_FILE: {self.file} is empty; write the connection string into it"
            )
        if "\0" in text:
            # A driver would read a shorter string, perhaps without its sslmode.
            raise self.error(
                f"{self.variable}_FILE: {self.file} contains a NUL byte; write only the connection string"
            )
        return text

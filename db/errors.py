"""The root of the Postgres side's errors, and the classes its public names raise.

A driver's exception never crosses this package's edge: it becomes one of these, `raise ... from exc`,
with its SQLSTATE kept. No message carries a secret or a whole connection string.
"""

from __future__ import annotations


class DbError(Exception):
    """The Postgres side cannot do what was asked; the message says what, which one, and what to do.

    `sqlstate` is the server's five-character code where the server spoke, else None.
    """

    sqlstate: str | None = None

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        if sqlstate is not None:
            self.sqlstate = sqlstate

"""Attempts to connect to Postgres: why the last one failed, whether waiting can help, and when the next one is due.

libpq reports a failed attempt as text, without the SQLSTATE. If the server's lc_messages is not English, the reason is
not recognized, and callers wait until their deadline.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import psycopg

from db.errors import DbError, Unavailable
from db.outage_log import OutageLog
from db.session import variable_at_fault

# How long calls wait for a new connection string after a login was refused, because its password may have been rotated.
ROTATION_SECONDS = 30.0
# Servers may lock a login after too many wrong passwords.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# While callers wait, a pool tries again at least this often.
_LONGEST_SILENCE = 3.0


@dataclass(frozen=True)
class Refusal:
    """The reason why an attempt to connect failed. If it is final, waiting does not help. No text contains a secret."""

    reason: str
    fix: str
    sqlstate: str | None = None
    is_final: bool = False

    def __str__(self) -> str:
        state = f" ({self.sqlstate})" if self.sqlstate else ""
        return f"{self.reason}{state}; {self.fix}"


@dataclass(frozen=True)
class _Kind:
    pattern: str
    sqlstate: str | None
    is_final: bool
    fix: str


# The first match is used. Temporary reasons come first: a host name may have several servers, and one may recover.
_KINDS = (
    _Kind(
        r"too many connections for|too many clients already|connection slots are reserved",
        "53300",
        False,
        "raise the limit, or lower GROUNDWORK_POOL_SIZE or the number of instances",
    ),
    _Kind(
        r"the database system is (starting up|shutting down|in recovery|not (yet )?accepting)",
        "57P03",
        False,
        "wait until the server accepts connections",
    ),
    _Kind(
        r"server is (not )?in hot standby mode|session is (not )?read-only",
        None,
        False,
        "wait until a server has the role that target_session_attrs asks for",
    ),
    _Kind(r"password authentication failed", "28P01", True, "check the user and the password"),
    _Kind(r"no password supplied", "28P01", True, "add the password to the connection string"),
    _Kind(r'database ".*" does not exist', "3D000", True, "check the name of the database, or create it"),
    _Kind(
        r'pg_hba\.conf|role ".*" does not exist|is not permitted to log in|authentication failed for user'
        r"|requires a valid client certificate",
        "28000",
        True,
        "check the user, and what pg_hba.conf allows it",
    ),
    _Kind(r"permission denied for database", "42501", True, "grant CONNECT on the database"),
    _Kind(
        r"certificate|alert unknown ca|does not support SSL",
        None,
        True,
        "check sslmode, sslrootcert and the host name, or renew the server's certificate",
    ),
    _Kind(r"failed to resolve host|could not translate host name", None, False, "check the name of the host"),
)
_ELSE = _Kind("", None, False, "check the host and the port, and that the server is up")


def refusal_of(error: Exception) -> Refusal:
    """Return why an attempt to connect raised `error`."""
    if isinstance(error, DbError):
        # The connection string could not be read.
        return Refusal(str(error), "fix the setting", error.sqlstate)
    text = str(error)
    if variable := variable_at_fault(text):
        return Refusal(_line(text), f"unset {variable}", error_state(error), is_final=True)
    kind = next((kind for kind in _KINDS if re.search(kind.pattern, text)), _ELSE)
    line = next((line for line in text.splitlines() if re.search(kind.pattern, line)), text)
    return Refusal(_line(line), kind.fix, error_state(error) or kind.sqlstate, kind.is_final)


def error_state(error: Exception) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def _line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return re.sub(r"connection (failed|is bad): |(FATAL|ERROR):  ", "", " ".join(line.split(" ")))


class LoginAttempts:
    """The attempts of the pool with this name. Its connections report to it, and its callers ask it before they wait.

    `read` returns the current connection string. `may_change` is whether a later one can differ. `on_end` is called at
    the end of each attempt.
    """

    def __init__(
        self, pool: str, read: Callable[[], str], *, may_change: bool, on_end: Callable[[], None]
    ) -> None:
        self._log = OutageLog(pool)
        self._read = read
        self._may_change = may_change
        self._on_end = on_end
        # True if the last refusal was final, or if no attempt has ended yet. Every call reads it.
        self.is_in_doubt = True
        self.refusal: Refusal | None = None
        self._has_connected = False
        self._text: str | None = None
        self._failed_at = self._refused_since = self._due_at = self._pause = 0.0

    def start(self) -> None:
        """Begin an attempt. Raises the last refusal if the login is the same and the next attempt is not due yet."""
        refusal, text = self.refusal, self._current()
        if refusal is not None and refusal.is_final and text == self._text and monotonic() < self._due_at:
            raise psycopg.OperationalError(f"not tried again yet: {refusal}")
        self._text = text

    def succeeded(self) -> None:
        self.refusal, self._has_connected, self.is_in_doubt = None, True, False
        self._log.succeeded()
        self._on_end()

    def failed(self, error: Exception) -> None:
        refusal, now = refusal_of(error), monotonic()
        if refusal.is_final:
            was_final = self.refusal is not None and self.refusal.is_final
            self._refused_since = self._refused_since if was_final else now
            self._pause = min(self._pause * 2, _LONGEST_PAUSE) if was_final else _FIRST_PAUSE
            self._due_at = now + self._pause
        self.refusal, self.is_in_doubt, self._failed_at = refusal, refusal.is_final, now
        self._log.failed(refusal, refusal.reason)
        self._on_end()

    def hopeless(self) -> Refusal | None:
        """Return the last refusal if waiting for another attempt does not help.

        The password of a login that has worked may have been rotated. Then a new connection string may follow soon.
        """
        refusal = self.refusal
        if refusal is None or not refusal.is_final or self._current() != self._text:
            return None
        is_rotating = self._may_change and self._has_connected
        return None if is_rotating and monotonic() - self._refused_since < ROTATION_SECONDS else refusal

    def reason(self, seconds: float) -> Refusal | None:
        """Return the last refusal, or None if it is too old to explain why a call has waited for `seconds`."""
        refusal = self.refusal
        is_recent = monotonic() - self._failed_at <= seconds + _LONGEST_SILENCE
        return refusal if refusal is not None and (refusal.is_final or is_recent) else None

    def _current(self) -> str | None:
        try:
            return self._read()
        except DbError:
            return self._text


def unavailable(pool: str, refusal: Refusal, waited: str = "") -> Unavailable:
    """Return the error of a call that gets no connection because of this refusal."""
    return Unavailable(
        f"no connection to Postgres from pool {pool}{waited}: {refusal}", sqlstate=refusal.sqlstate
    )

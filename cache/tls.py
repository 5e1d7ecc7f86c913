"""TLS connections to Redis that share one context, which trusts only the given CA.

redis-py creates a context for each connection and loads the system's CAs into it. That takes 40 ms, most of a call's
time limit, and any public CA could vouch for the server. The overridden methods are private, and the same in redis-py
5.2 to 8.1; tests in tests/unit/cache and tests/integration/cache check them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import POLLIN, poll
from typing import Any

from redis.asyncio.connection import Connection as _AsyncConnection
from redis.asyncio.connection import SSLConnection as _AsyncSslConnection
from redis.connection import Connection as _Connection
from redis.connection import SSLConnection as _SslConnection
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError

from cache.errors import CacheSettingError
from cache.resolving import addresses
from cache.resp import Answers, AsyncAnswers
from cache.synchronization import async_time_limit, seconds_left


class TlsContext:
    """The TLS context for a CA file. It is created again when the file changes, so that a CA can be rotated."""

    def __init__(self, ca_file: str | None, check_hostname: bool) -> None:
        self._ca_file = ca_file
        self._check_hostname = check_hostname
        # The context, and when its file was changed. One attribute, because threads read it without a lock.
        self._made: tuple[ssl.SSLContext, int] | None = None

    def get(self) -> ssl.SSLContext:
        """Return the context. Raise redis-py's ConnectionError, which names the file, if the file cannot be read."""
        try:
            return self._current()
        except OSError as error:
            # redis-py would report the reason without the file.
            raise RedisConnectionError(
                f"cannot read the certificate authority {self._ca_file}: {error.strerror or error}"
            ) from error

    def _current(self) -> ssl.SSLContext:
        changed_at = Path(self._ca_file).stat().st_mtime_ns if self._ca_file else 0
        made = self._made
        if made is None or changed_at != made[1]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = self._check_hostname
            if self._ca_file:
                context.load_verify_locations(self._ca_file)
            else:
                context.load_default_certs()
            made = self._made = context, changed_at
        return made[0]


class _Quiet:
    """Sends only what the caller sends: no CLIENT SETINFO, and no CLIENT MAINT_NOTIFICATIONS.

    Redis 7.0 does not know these commands, and the ACL does not allow them. redis-py's attributes for them differ
    between its versions, and not every version has an option for each.
    """

    driver_info: Any
    maint_notifications_config: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.driver_info = self.lib_name = self.lib_version = self.maint_notifications_config = None


class _NoFarewell(_Quiet):
    """Aborts a connection on disconnect: a TLS transport would wait 30 s for the close_notify of a silent peer."""

    _reader: Any
    _writer: Any
    socket_connect_timeout: Any

    if not hasattr(_AsyncConnection, "can_read"):

        async def can_read(self) -> bool:
            """Return whether data is left or the connection has ended. redis-py before 8.0 checks only the latter."""
            return bool(self._reader._buffer) or bool(await super().can_read_destructive())  # type: ignore[misc]

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        """Disconnect without waiting, whatever the argument `nowait` says.

        redis-py would wait for the transport within the time limit for connecting. On a busy event loop, that ends with
        an error although the transport is aborted.
        """
        if self._writer is not None:
            self._writer.transport.abort()
        options.pop("nowait", None)
        # The first argument is `nowait`.
        await super().disconnect(True, *arguments[1:], **options)  # type: ignore[misc]
        # The event loop closes the socket in its next round.
        await asyncio.sleep(0)


class AsyncPlainConnection(AsyncAnswers, _NoFarewell, _AsyncConnection):
    """redis-py's connection without TLS, which disconnects at once."""


class AsyncTlsConnection(AsyncAnswers, _NoFarewell, _AsyncSslConnection):
    """redis-py's TLS connection with the shared context, which disconnects at once."""

    def __init__(self, *, tls: TlsContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Any:
        # Without TLS: `_connect` adds it.
        return super(_AsyncSslConnection, self)._connection_arguments()

    async def _connect(self) -> None:
        """Connect without TLS, then start it, so that a cancelled connection closes at once.

        With both in one step, asyncio waits up to 30 s for the server's close_notify if the task is cancelled just as
        the handshake ends. If the event loop ends before that, the socket stays open.
        """
        await super()._connect()  # type: ignore[no-untyped-call]
        try:
            async with async_time_limit(self.socket_connect_timeout):
                await self._writer.start_tls(self._tls.get(), server_hostname=self.host)
        except BaseException:
            self._writer.transport.abort()
            self._reader = self._writer = None
            raise


class _BoundedSocket:
    """A socket whose operations get the time left of the current call.

    A large answer takes many operations, each of which would otherwise get the whole time limit. Another timeout that
    redis-py sets has priority.
    """

    def __init__(self, sock: Any, usual: float) -> None:
        self._sock = sock
        self._usual = usual
        self._is_usual = True
        # The timeout that was last set. It is unknown after connecting.
        self._given = 0.0
        self._poller = poll()
        self._poller.register(sock, POLLIN)
        # A plain socket has no pending(); int() returns 0.
        self._decrypted = getattr(sock, "pending", int)

    def is_quiet(self) -> bool:
        """Return whether there is nothing to read, including the end of the stream."""
        return not self._decrypted() and not self._poller.poll(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)
        self._is_usual = seconds == self._usual
        self._given = self._usual

    def recv(self, *arguments: int) -> bytes:
        self._bound()
        received: bytes = self._sock.recv(*arguments)
        return received

    def recv_into(self, *arguments: Any) -> int:
        """Used by redis-py if hiredis is installed."""
        self._bound()
        size: int = self._sock.recv_into(*arguments)
        return size

    def sendall(self, data: bytes) -> None:
        self._bound()
        self._sock.sendall(data)

    def _bound(self) -> None:
        if self._is_usual:
            left = seconds_left(self._usual)
            # Setting a timeout is a system call, and most operations start with nearly all of the time left.
            if min(left, self._given) < 0.95 * self._usual:
                self._sock.settimeout(left)
                self._given = left


class _BoundedSteps(_Quiet):
    """Limits connecting and each operation to the time left of the call. redis-py gives each the whole time limit."""

    _sock: Any
    _parser: Any
    host: str
    port: int
    # The name that the certificate must contain. While connecting, `host` is an address.
    _name = ""
    socket_timeout: Any
    socket_connect_timeout: Any

    def _connect(self) -> Any:
        usual = self.socket_timeout, self.socket_connect_timeout
        self._name = self.host
        failure: OSError | None = None
        try:
            for address in addresses(self._name, self.port, seconds_left(usual[1])):
                self.host = address
                self.socket_connect_timeout = seconds_left(usual[1])
                # The timeout of the TLS handshake.
                self.socket_timeout = min(usual[0], self.socket_connect_timeout)
                try:
                    return _BoundedSocket(super()._connect(), usual[0])  # type: ignore[misc]
                except OSError as error:
                    failure = error
            raise failure or OSError(f"{self._name} has no address")
        finally:
            self.host = self._name
            self.socket_timeout, self.socket_connect_timeout = usual

    def can_read(self, timeout: float = 0) -> bool:
        """Return whether data of an earlier answer is left or the connection has ended. Called before each command.

        redis-py's parser tries to read instead. On a TLS socket without data that raises, which takes a tenth of the
        time of a hit.
        """
        # hiredis has another buffer, without unread_bytes.
        unread = getattr(self._parser._buffer, "unread_bytes", None)
        if timeout == 0 and unread is not None and not unread() and self._sock.is_quiet():
            return False
        return super().can_read(timeout)  # type: ignore[misc,no-any-return]


class PlainConnection(Answers, _BoundedSteps, _Connection):
    """redis-py's connection without TLS, limited to the time of the call."""


class TlsConnection(Answers, _BoundedSteps, _SslConnection):
    """redis-py's TLS connection with the shared context, limited to the time of the call."""

    def __init__(self, *, tls: TlsContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        with closed_on_failure():
            return self._tls.get().wrap_socket(sock, server_hostname=self._name)


@contextmanager
def closed_on_failure() -> Iterator[None]:
    """Close the TLS socket that `SSLContext.wrap_socket` was creating when it raised an OSError.

    If the server has reset the connection before, Python before 3.13 neither returns nor closes this socket. It would
    stay open until it is garbage, with a ResourceWarning.
    """
    try:
        yield
    except OSError as error:
        trace = error.__traceback__
        while trace is not None:
            unfinished = trace.tb_frame.f_locals.get("self")
            if isinstance(unfinished, ssl.SSLSocket):
                unfinished.close()
            trace = trace.tb_next
        raise


def connection_options(url: str, tls_class: type[Any], plain_class: type[Any]) -> dict[str, Any]:
    """Return a pool's options for a URL that `CacheSettings.server_urls` returns. Raises CacheSettingError."""
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise CacheSettingError(f"REDIS_URL: {error}") from error
    tls_options = {key: options.pop(key) for key in [*options] if key.startswith("ssl_")}
    if options.pop("connection_class", None) is None:
        if tls_options:
            raise CacheSettingError("REDIS_URL: ssl_* needs rediss://; change the scheme or remove them")
        return options | {"connection_class": plain_class}
    if tls_options.get("ssl_cert_reqs", "required") != "required":
        raise CacheSettingError("REDIS_URL: ssl_cert_reqs must be `required`, the default; remove it")
    tls = TlsContext(tls_options.get("ssl_ca_certs"), _flag(tls_options.get("ssl_check_hostname", True)))
    return options | {"connection_class": tls_class, "tls": tls}


def _flag(value: object) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes", "on")


def async_redis_descriptor(connection: Any) -> int | None:
    """Return the descriptor of an async connection's socket, or None."""
    writer = connection._writer
    sock = None if writer is None else writer.transport.get_extra_info("socket")
    return None if sock is None else sock.fileno()


def redis_descriptor(connection: Any) -> int | None:
    """Return the descriptor of a connection's socket, or None."""
    return None if connection._sock is None else connection._sock.fileno()


def async_abort_redis(connection: Any) -> None:
    """Close an async connection without waiting, from any thread, also after the end of its event loop."""
    writer, connection._writer, connection._reader = connection._writer, None, None
    if writer is not None:
        # The loop may be closed.
        with suppress(RuntimeError):
            # The writer is an argument, because it warns if it is deleted before it is closed.
            writer.transport._loop.call_soon_threadsafe(_abort, writer)


def _abort(writer: Any) -> None:
    writer.transport.abort()


def abort_redis(connection: Any) -> None:
    """Close a connection."""
    connection.disconnect()

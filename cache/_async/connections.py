"""Connections to Redis that are free for the next call, and the exchange of commands and answers on them.

redis-py's pool counts the connections in use. If a signal handler interrupts a caller, its connection is never returned
and stays counted. Here only the caller refers to a connection in use: if the caller loses it, it is deleted and closed.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, OutOfMemoryError, RedisError, ResponseError

from cache.credentials import UrlCredentials
from cache.epoch import Epoch, fields_of
from cache.errors import CacheSettingError
from cache.forking import abandon, connecting, register
from cache.keys import epoch_nonce, write_fence
from cache.primary import Primary
from cache.resp import packed
from cache.settings import CacheSettings
from cache.synchronization import async_socket_seconds, async_time_limit
from cache.tls import (
    AsyncPlainConnection,
    AsyncTlsConnection,
    async_abort_redis,
    async_redis_descriptor,
    connection_options,
)

_T = TypeVar("_T")
# The time limit for one server in the search for the primary. It is longer than that of a call, because a connection
# with TLS takes 0.2 s on a busy machine, and no caller waits for the search.
SEARCH_SECONDS = 1.0


class AsyncConnections:
    """The connections of one client. The client's semaphore limits their number.

    The constructor raises CacheSettingError for invalid settings. All methods raise redis-py's errors.
    """

    def __init__(self, settings: CacheSettings, epoch: Epoch, primary: Primary) -> None:
        self._epoch = epoch
        self._nonce_key = epoch_nonce(settings.namespace)
        self._fence_key = write_fence(settings.namespace)
        self._primary = primary
        # For each server, a function that makes a connection, in the order of REDIS_URL.
        self._makers = [_maker(url, settings) for url in settings.server_urls()]
        # Connections whose answers have all been read.
        self._idle: list[Any] = []
        # All existing connections, because a forked child must not use their sockets.
        self._existing: set[ref[Any]] = set()
        register(self)

    def after_fork(self) -> None:
        for reference in [*self._existing]:
            connection = reference()
            if connection is not None:
                abandon(connection, async_redis_descriptor(connection))
        self._idle, self._existing = [], set()

    def abandon(self) -> None:
        """Close the free connections without waiting."""
        for connection in self._idle:
            async_abort_redis(connection)

    async def aclose(self) -> None:
        """Close the free connections."""
        while self._idle:
            await self._idle.pop().disconnect()

    async def ask(self, *command: str) -> Any:
        """Send one ASCII command and return the answer. redis-py's client would double the time that this takes."""
        answers = await self._with_connection(_exchange, [packed(*command)], 1)
        return _without_errors(answers)[0]

    async def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one round trip and return the answers. Raises the first error among them."""
        return _without_errors(await self._with_connection(_exchange_many, commands))

    async def ask_epoch(self) -> None:
        """Read the epoch again, to notice a flush by another process or a change of the server's role."""
        await self._with_connection(self._learn_epoch)

    async def take(self, seconds: float | None = None) -> Any:
        """Return a connection that no other caller uses. On a new one the epoch is read before anything else.

        `seconds` replaces the time limit of a call for a new one.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._make(self._primary.require(), seconds)
        else:
            try:
                # Readable data is an answer that nobody asked for, or the end of the connection.
                if not await connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass
            await connection.disconnect()
        try:
            with connecting():
                await connection.connect()
            await self._learn_epoch(connection)
        except BaseException:
            await connection.disconnect()
            raise
        return connection

    async def find_primary(self) -> float:
        """Find the server of REDIS_URL that accepts writes, and return for how many seconds it must not be used yet.

        Raises redis-py's ConnectionError if there is none. The connection is not kept: a former primary that was frozen
        may accept one write before it notices that its replicas have left. The next connection tries another write.
        """
        reasons = [""] * len(self._makers)
        for index in self._primary.order():
            connection = self._make(index, SEARCH_SECONDS)
            try:
                async with async_time_limit(SEARCH_SECONDS):
                    with connecting():
                        await connection.connect()
                    information, _ = await self._greet(connection)
            except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
                reasons[index] = str(error) or type(error).__name__
                continue
            finally:
                await connection.disconnect()
            # Connections to the former primary may still be open.
            await self.aclose()
            return self._primary.found(index, fields_of(information)[b"run_id"])
        self._primary.missing(reasons)
        raise ConnectionError("no server of REDIS_URL is a primary that accepts writes")

    def put_back(self, connections: Iterable[Any]) -> None:
        """Return connections for later calls. All their answers must have been read."""
        self._idle += connections

    async def _with_connection(self, talk: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        connection = await self.take()
        try:
            answer = await talk(connection, *arguments)
        except ResponseError:
            # All answers have been read.
            self._idle.append(connection)
            raise
        except BaseException:
            # Pending answers must not be read as answers to later commands.
            await connection.disconnect()
            raise
        self._idle.append(connection)
        return answer

    def _make(self, index: int, seconds: float | None = None) -> Any:
        """Create a connection to a server. `seconds` replaces the time limit of a call."""
        limits = (
            {"socket_connect_timeout": seconds, "socket_timeout": async_socket_seconds(seconds)}
            if seconds
            else {}
        )
        connection = self._makers[index](**limits)
        self._existing.add(ref(connection, self._existing.discard))
        return connection

    async def _learn_epoch(self, connection: Any) -> None:
        question = self._epoch.question()
        information, nonce = await self._greet(connection)
        self._primary.require_same(fields_of(information)[b"run_id"])
        self._epoch.learn(question, information, nonce)

    async def _greet(self, connection: Any) -> tuple[bytes, bytes | None]:
        """Return the server's INFO and the nonce. Raises its error if it does not accept writes.

        A server that has lost its replicas, or is a replica, is not read either: it may miss invalidations. SET alone
        does not show this, because a server without memory refuses it before it checks the replicas.
        """
        commands = [
            ("INFO", "server", "replication"),
            ("UNLINK", self._fence_key),
            ("SET", self._nonce_key, secrets.token_hex(8), "NX"),
            ("GET", self._nonce_key),
        ]
        information, fence, stored, nonce = await _exchange_many(connection, commands)
        if isinstance(nonce, ResponseError) and is_wrong_type(nonce):
            again = [("UNLINK", self._nonce_key), *commands]
            _, information, fence, stored, nonce = await _exchange_many(connection, again)
        for answer in (information, fence, stored, nonce):
            # If Redis has no memory left for a new nonce, an existing one is still valid.
            if isinstance(answer, ResponseError) and not isinstance(answer, OutOfMemoryError):
                raise type(answer)(str(answer))
        return information, nonce


def is_wrong_type(error: ResponseError) -> bool:
    """Return whether a command or script failed because a key contains another type than a string."""
    return "WRONGTYPE" in str(error)


def _maker(url: str, settings: CacheSettings) -> Callable[..., Any]:
    """Return a function that makes a connection to one server. Raises CacheSettingError for a wrong option."""
    options = connection_options(url, AsyncTlsConnection, AsyncPlainConnection)
    make = partial(
        options.pop("connection_class"),
        **options,
        credential_provider=UrlCredentials(settings),
        # The default of redis-py 8, and the only one whose answers cache.resp reads.
        protocol=3,
        socket_connect_timeout=settings.timeout_seconds,
        socket_timeout=async_socket_seconds(settings.timeout_seconds),
        socket_keepalive=True,
        # The default retries three times with backoff, and would repeat commands that are not idempotent.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    try:
        # A connection checks its options when it is created. Create one here to report a wrong option now.
        make()
    except (TypeError, ValueError) as error:
        raise CacheSettingError(f"REDIS_URL: {error}") from error
    return make


async def _exchange(connection: Any, command: Sequence[bytes], count: int) -> list[Any]:
    """Send packed commands in one round trip and return all answers, with the server's errors among them."""
    await connection.send_packed_command(command, check_health=False)
    answers: list[Any] = await connection.read_answers(count)
    return answers


async def _exchange_many(connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    return await _exchange(connection, connection.pack_commands(commands), len(commands))


def _without_errors(answers: list[Any]) -> list[Any]:
    """Return the answers. Raises the first error among them."""
    failures = [answer for answer in answers if isinstance(answer, ResponseError)]
    try:
        if failures:
            raise failures[0]
    finally:
        # The error refers to this frame. If the frame refers to it too, both live until garbage collection.
        if failures:
            failures, answers = [], []
    return answers

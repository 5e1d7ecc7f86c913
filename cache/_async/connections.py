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
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from cache.credentials import UrlCredentials
from cache.epoch import Epoch
from cache.errors import CacheSettingError
from cache.forking import abandon, connecting, register
from cache.resp import packed
from cache.settings import CacheSettings
from cache.synchronization import async_socket_seconds
from cache.tls import (
    AsyncPlainConnection,
    AsyncTlsConnection,
    async_abort_redis,
    async_redis_descriptor,
    connection_options,
)

_T = TypeVar("_T")


class AsyncConnections:
    """The connections of one client. The client's semaphore limits their number.

    The constructor raises CacheSettingError for invalid settings. All methods raise redis-py's errors.
    """

    def __init__(self, settings: CacheSettings, epoch: Epoch, nonce_key: str) -> None:
        self._epoch = epoch
        self._nonce_key = nonce_key
        options = connection_options(settings.server_url(), AsyncTlsConnection, AsyncPlainConnection)
        try:
            self._make: Callable[[], Any] = partial(
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
            # A connection checks its options when it is created. Create one here to report a wrong option now.
            self._make()
        except (TypeError, ValueError) as error:
            raise CacheSettingError(f"REDIS_URL: {error}") from error
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

    async def take(self) -> Any:
        """Return a connection that no other caller uses. On a new one the epoch is read before anything else."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._make()
            self._existing.add(ref(connection, self._existing.discard))
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

    async def _learn_epoch(self, connection: Any) -> None:
        question = self._epoch.question()
        commands = [
            ("INFO", "server", "replication"),
            ("SET", self._nonce_key, secrets.token_hex(8), "NX"),
            ("GET", self._nonce_key),
        ]
        information, stored, nonce = await _exchange_many(connection, commands)
        for answer in (information, stored, nonce):
            # If Redis has no memory left for a new nonce, an existing one is still valid.
            if isinstance(answer, ResponseError) and not isinstance(answer, OutOfMemoryError):
                raise type(answer)(str(answer))
        self._epoch.learn(question, information, nonce)


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

# Generated from db/_async/access.py by scripts/generate_sync.py; edit that, not this.
"""The entry point of the data access: the connection pool, the cache client and the repositories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from cache._sync.client import Client
from cache.settings import CacheSettings
from db._sync.activities import ActivityRepository
from db._sync.organizations import OrganizationRepository
from db._sync.outbox import Droppable, Outbox
from db._sync.pool import Pool
from db._sync.repositories import RepositoryRepository
from db._sync.users import UserRepository
from db.deadline import deadline_of_block
from db.entities import ENTITIES
from db.errors import InvalidInput
from db.isolation import Isolation, IsolationLevel
from db.named_query import NamedQuery
from db.own_queries import checked_parameters, rows_of
from db.reading import reading_block
from db.settings import DatabaseSettings
from db.token_keys import TokenKeys

T = TypeVar("T")


class DataAccess:
    """Repositories for users, organizations, repositories and activities, over Postgres and Redis.

    Create it with `open()` and use it as a context manager. Entering it connects in the background and returns at
    once. If Postgres is down, each call that needs it raises `db.errors.Unavailable`. If Redis is down, reads and
    writes go to Postgres and no call fails.

    One instance is enough for a process. Methods of DataAccess may be called from several threads at once, those of
    AsyncDataAccess from several tasks of one event loop.
    """

    def __init__(
        self, database: DatabaseSettings, cache: CacheSettings, token_keys: TokenKeys | None = None
    ) -> None:
        keys = token_keys or TokenKeys(None)
        self.pool = Pool(database)
        self.cache = Client(cache)
        self.users = UserRepository(self.pool, self.cache, cache.namespace, keys)
        self.organizations = OrganizationRepository(self.pool, self.cache, cache.namespace)
        self.repositories = RepositoryRepository(self.pool, self.cache, cache.namespace)
        self.activities = ActivityRepository(self.pool, self.cache, cache.namespace)
        self.users.feeds = self.activities.user_feeds
        self.repositories.feeds = self.activities.repository_feeds
        caches: dict[str, Droppable] = {
            **{entity.name: getattr(self, entity.plural).cached for entity in ENTITIES},
            self.activities.USER_FEED: self.activities.user_feeds,
            self.activities.REPOSITORY_FEED: self.activities.repository_feeds,
        }
        self.outbox = Outbox(self.pool, caches)

    @classmethod
    def open(cls) -> Self:
        """Return a data access configured from the environment. Enter it before use.

        Reads DATABASE_URL, DATABASE_READ_URL, REDIS_URL and GROUNDWORK_TOKEN_KEYS, or for each the variable with the
        suffix _FILE, which names a file. Without DATABASE_READ_URL the primary answers all reads. Without
        GROUNDWORK_TOKEN_KEYS everything works except tokens.

        Raises `db.errors.InvalidSetting` or `cache.errors.CacheSettingError` if a setting is missing or invalid.
        """
        return cls(
            DatabaseSettings.from_environment(),
            CacheSettings.from_environment(),
            TokenKeys.from_environment(),
        )

    @contextmanager
    def transaction(
        self, *, isolation: IsolationLevel | None = None, read_only: bool = False
    ) -> Iterator[None]:
        """Run every repository call of this task inside the block in one transaction.

        The transaction commits at the end of the block. It rolls back if an exception leaves the block. A nested
        `transaction()` is a savepoint.

        Without `isolation`, the session's default applies, which is read committed. In a `read_only` transaction the
        server rejects writes. A nested block that asks for something else raises InvalidInput.

        Reads inside the block bypass the cache and see the transaction's own writes. Cached entries are invalidated
        after COMMIT. No statement is retried.

        Raises TransactionConflict after a serialization failure or a deadlock: run the whole transaction again. Raises
        OutcomeUnknown if COMMIT was sent and no answer came, and TransactionAborted if a statement failed and
        the block caught the error and continued.
        """
        with self.pool.transaction(isolation=Isolation(isolation, read_only)):
            yield

    def fetch_all(self, query: NamedQuery, row: type[T], /, **parameters: object) -> list[T]:
        """Execute a query of `load_queries` and return its rows: an empty list if it returns none.

        `row` is a msgspec Struct, a dataclass, a TypedDict or dict, for columns by name. It may be a tuple or a
        NamedTuple, for columns by position, or the type of a single column. The query takes part in `transaction()` and
        has the deadline, the retry and the metrics of all calls. Its rows are not cached.

        Raises InvalidInput for a parameter that the query does not take, or of another type. Raises InvalidRow, a
        TypeError, if the columns do not fit `row` or have a value that Python cannot represent. A write was applied
        nevertheless, unless a transaction rolls it back.
        """
        return self.pool.read_all(query, checked_parameters(query, parameters), rows_of(query, row))

    def fetch_one(self, query: NamedQuery, row: type[T], /, **parameters: object) -> T | None:
        """Execute a query as `fetch_all` does and return its first row, or None."""
        rows = self.fetch_all(query, row, **parameters)
        return rows[0] if rows else None

    def reading(
        self, *, max_staleness: float | None = 10.0, after: str | None = None
    ) -> AbstractContextManager[None]:
        """Let replicas answer reads in a `with` block. Use `with` in async code too.

        A replica answers only if it has replayed every write that this data access has completed, every write up to
        `after`, and all others that are older than `max_staleness` seconds. None sets no such bound. Otherwise the
        primary answers. `after` is what `write_position()` has returned, in this process or in another one.

        It applies to listings, counts, reads by a natural key, reads of activities by key, and `fetch_all` and
        `fetch_one` with a `:read`. Reads through the cache, writes and transactions are as usual. Without
        `DATABASE_READ_URL` the primary answers everything. Raises InvalidInput.
        """
        return reading_block(max_staleness, after)

    def write_position(self) -> str:
        """Return a position after all writes that this data access has completed, for `reading(after=...)` elsewhere.

        Call it after the transaction that wrote, because its position is not known before COMMIT. Raises InvalidInput
        inside a transaction.
        """
        if self.pool.in_transaction():
            raise InvalidInput("write_position", "is not known before COMMIT; call it after the transaction")
        return str(self.pool.position(self.pool.deadline()))

    def connect(self) -> Self:
        """Open this data access without a `with` block, and return it.

        Use it in a module that keeps the data access open for the whole process. Close it with `close()`, or in async
        code with `aclose()`.
        """
        return self.__enter__()

    def deadline(self, seconds: float) -> AbstractContextManager[None]:
        """Give all calls of a `with` block one deadline, `seconds` from its start. Use `with` in async code too.

        Without it, each call has the deadline of the settings. The earliest deadline counts, also of nested blocks. It
        includes the COMMIT of a transaction that begins and ends in the block. Tasks that are started in the block
        share its deadline.
        """
        return deadline_of_block(seconds)

    def __enter__(self) -> Self:
        self.pool.open()
        self.cache.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a data access cannot be pickled or copied; open one in each process")

    def close(self) -> None:
        """Close all connections and stop the background tasks. Later calls raise Unavailable."""
        try:
            self.cache.close()
        finally:
            self.pool.close()

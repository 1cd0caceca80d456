"""The connection to the database: SQLite or PostgreSQL by its URL. Its errors end here."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.errors import DatabaseInUse, DatabaseUnavailable, InvalidSettings
from gateway.store.writer import GroupWriter

_T = TypeVar("_T")

_BUSY_S = 30
_POOL = 8


class Database:
    """`read` and `write` run a function in one transaction, from any thread; nothing of the
    network belongs into it. On SQLite all writes share one thread, which commits those that wait
    together. Both raise DatabaseUnavailable."""

    def __init__(self, url: str) -> None:
        """Raises InvalidSettings."""
        self.engine = _make_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = GroupWriter(self.engine) if self.is_sqlite else None

    def read(self, work: Callable[[Connection], _T]) -> _T:
        with _errors(), self.engine.begin() as connection:
            return work(connection)

    def write(self, work: Callable[[Connection], _T]) -> _T:
        with _errors():
            if self._writer is not None:
                return self._writer.run(work)
            with self.engine.begin() as connection:
                return work(connection)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.engine.dispose()


class _Cursor(Protocol):
    def execute(self, statement: str) -> Any: ...
    def close(self) -> None: ...


def _make_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise InvalidSettings("GATEWAY_DATABASE_URL is no database URL") from exc
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(
            parsed, pool_size=_POOL, max_overflow=_POOL, pool_pre_ping=True, pool_timeout=_BUSY_S,
            connect_args={"connect_timeout": 10},
        )  # fmt: skip
    if parsed.get_backend_name() != "sqlite":
        raise InvalidSettings("GATEWAY_DATABASE_URL must begin with sqlite: or postgresql:")
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidSettings("GATEWAY_DATABASE_URL must name a file: sqlite:////path/to/file")
    engine = create_engine(
        parsed, pool_size=_POOL, max_overflow=2 * _POOL, connect_args={"timeout": _BUSY_S}
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _set_pragmas(connection: Any, _record: Any) -> None:
    # Else pysqlite begins transactions by its own rules, and late.
    connection.isolation_level = None
    cursor: _Cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """A writer says so first: one that only finds out by its first write may have to give up."""
    is_writer = connection.get_execution_options().get("is_writer")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as exc:
        raise DatabaseUnavailable("the database does not answer; try again") from exc
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise DatabaseUnavailable("the database has closed the connection") from exc
        raise


@contextlib.contextmanager
def only_process(url: str) -> Iterator[None]:
    """A SQLite file has one process that serves from it. Raises DatabaseInUse."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        yield
        return
    path = Path(f"{parsed.database}.lock")
    # Not inherited, since a child that lives on would keep the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DatabaseInUse(
                f"another gateway runs on {parsed.database}; end it, or set GATEWAY_DATABASE_URL "
                "to PostgreSQL to run several"
            ) from exc
        yield
    finally:
        os.close(descriptor)

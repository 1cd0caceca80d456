"""What the database knows of the time."""

from sqlalchemy import func, select, text

from gateway.job import OPEN
from gateway.store.database import Database
from gateway.store.tables import jobs

_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")


class Times:
    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> int | None:
        """By the database's own clock, in milliseconds since 1970; None where it has none."""
        if self._database.is_sqlite:
            return None
        return int(self._database.read(lambda connection: connection.scalar(_NOW)) or 0)

    def latest(self) -> int:
        """The latest change of a job that is open; 0 when there is none."""
        statement = select(func.max(jobs.c.updated_at)).where(jobs.c.state.in_(OPEN))
        return int(self._database.read(lambda connection: connection.scalar(statement)) or 0)

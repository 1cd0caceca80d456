"""Own workers that have asked for jobs, and when last."""

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.database import Database
from gateway.store.tables import workers


class Workers:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def seen(self, worker: str, now: int, gpu: str | None) -> None:
        statement = self._insert(workers).values(id=worker, first_seen_at=now, seen_at=now, gpu=gpu)
        latest = {"seen_at": now} if gpu is None else {"seen_at": now, "gpu": gpu}
        statement = statement.on_conflict_do_update(index_elements=[workers.c.id], set_=latest)
        self._database.write(lambda connection: connection.execute(statement))

    def since(self, at: int) -> list[str]:
        """Those seen after `at`."""
        statement = select(workers.c.id).where(workers.c.seen_at > at).order_by(workers.c.id)
        return list(self._database.read(lambda connection: connection.scalars(statement).all()))

    def forget(self, before: int) -> None:
        statement = delete(workers).where(workers.c.seen_at < before)
        self._database.write(lambda connection: connection.execute(statement))

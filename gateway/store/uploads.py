"""Pictures that callers have uploaded and not used yet."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select

from gateway.errors import NotFound
from gateway.store.database import Database
from gateway.store.tables import uploads


class Uploads:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: Mapping[str, Any]) -> None:
        self._database.write(lambda connection: connection.execute(insert(uploads).values(row)))

    def key_of(self, owner: str, upload_id: str, now: int) -> str:
        """In the store. Raises NotFound."""
        statement = select(uploads.c.key).where(
            uploads.c.id == upload_id, uploads.c.owner == owner, uploads.c.expires_at > now
        )
        key = self._database.read(lambda connection: connection.scalar(statement))
        if key is None:
            raise NotFound(f"there is no upload {upload_id[:100]!r}, or its hour is over")
        return str(key)

    def expired(self, now: int, most: int) -> list[tuple[str, str]]:
        """Id and key."""
        statement = select(uploads.c.id, uploads.c.key).where(uploads.c.expires_at <= now)
        rows = self._database.read(
            lambda connection: connection.execute(statement.limit(most)).all()
        )
        return [(row.id, row.key) for row in rows]

    def remove(self, upload_id: str) -> None:
        statement = delete(uploads).where(uploads.c.id == upload_id)
        self._database.write(lambda connection: connection.execute(statement))

"""Keys that `python -m gateway keys add` has made; only their hashes are kept."""

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from gateway.errors import InvalidRequest
from gateway.store.database import Database
from gateway.store.tables import api_keys


class Keys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, str]:
        """Hash to name."""
        statement = select(api_keys.c.key_hash, api_keys.c.name)
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return {row.key_hash: row.name for row in rows}

    def add(self, name: str, key_hash: str, now: int) -> None:
        """Raises InvalidRequest when there is one of that name."""
        row = {"name": name, "key_hash": key_hash, "created_at": now}
        try:
            self._database.write(
                lambda connection: connection.execute(insert(api_keys).values(row))
            )
        except IntegrityError as exc:
            raise InvalidRequest(f"there is a key {name!r} already; remove it first") from exc

    def remove(self, name: str) -> bool:
        statement = delete(api_keys).where(api_keys.c.name == name)
        return bool(self._database.write(lambda connection: connection.execute(statement).rowcount))

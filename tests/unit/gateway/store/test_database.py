"""One transaction for each piece of work, on each engine; on SQLite shared commits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select

from gateway.errors import DatabaseInUse, DatabaseUnavailable, InvalidSettings
from gateway.store.database import Database, only_process
from gateway.store.tables import api_keys


def add(name: str) -> Any:
    row = {"name": name, "key_hash": name, "created_at": 0}
    return lambda connection: connection.execute(insert(api_keys).values(row))


def names(database: Database) -> set[str]:
    return set(database.read(lambda c: c.scalars(select(api_keys.c.name)).all()))


def test_work_that_raises_takes_back_its_own_writes_and_nobody_elses(database: Database) -> None:
    def fail(connection: Connection) -> None:
        add("half")(connection)
        raise ValueError("so it is")

    def work(number: int) -> str:
        try:
            database.write(fail if number % 3 == 0 else add(f"n{number}"))
        except ValueError:
            return "failed"
        return f"n{number}"

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(work, range(60)))
    assert said.count("failed") == 20
    assert names(database) == set(said) - {"failed"}


def test_what_was_written_is_there_when_write_returns(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        seen = list(
            pool.map(
                lambda n: (database.write(add(f"n{n}")), f"n{n}" in names(database))[1], range(40)
            )
        )
    assert all(seen)


def test_waiting_writes_are_written_before_the_database_is_closed(tmp_path: Path) -> None:
    from gateway.store.migrate import migrate

    url = f"sqlite:///{tmp_path}/x.sqlite"
    database = Database(url)
    migrate(database)
    began, go_on = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        began.set()
        go_on.wait(30)

    with ThreadPoolExecutor(6) as pool:
        pool.submit(database.write, slow)
        began.wait(30)
        waiting = [pool.submit(database.write, add(f"n{n}")) for n in range(4)]
        closing = pool.submit(database.close)
        go_on.set()
        closing.result(30)
        done = [future.exception(30) is None for future in waiting]
    again = Database(url)
    count = again.read(lambda c: c.scalar(select(func.count()).select_from(api_keys)))
    again.close()
    assert count == sum(done), "each is written or refused"


def test_a_database_that_does_not_answer_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(DatabaseUnavailable):
        database.read(lambda connection: None)
    database.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_an_address_of_no_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="GATEWAY_DATABASE_URL"):
        Database(url)


def test_a_sqlite_file_has_one_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    with (
        only_process(url),
        pytest.raises(DatabaseInUse, match="another gateway"),
        only_process(url),
    ):
        pass
    with only_process(url):
        pass

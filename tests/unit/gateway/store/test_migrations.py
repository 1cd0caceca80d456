"""The migrated database is the tables that the code speaks of."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from gateway.errors import DatabaseOutdated
from gateway.store.database import Database
from gateway.store.migrate import check_schema, migrate
from gateway.store.tables import metadata


def test_a_migrated_database_has_the_tables_of_the_code(database: Database) -> None:
    options = {"compare_type": True}
    differences = database.read(
        lambda c: compare_metadata(MigrationContext.configure(c, opts=options), metadata)
    )
    assert differences == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    assert migrate(database) == migrate(database)
    check_schema(database)


def test_another_versions_schema_is_refused(database: Database) -> None:
    database.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '0000'")))
    with pytest.raises(DatabaseOutdated, match="migrate"):
        check_schema(database)

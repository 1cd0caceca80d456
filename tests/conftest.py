"""Fixtures of several suites."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.store.database import Database
from tests.databases import Templates, templates


@pytest.fixture(scope="session")
def database_templates() -> Iterator[Templates]:
    with templates() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: Any, database_templates: Templates) -> Iterator[Database]:
    """A migrated, empty one: the test runs once on each engine."""
    found = Database(database_templates.url(request.param))
    yield found
    found.close()

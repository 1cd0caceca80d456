"""A gateway for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways import TestGateway, running_gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[TestGateway]:
    with running_gateway(tmp_path) as found:
        yield found


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[TestGateway]:
    """With two callers, and an admin."""
    with running_gateway(
        tmp_path, gateway_api_keys="ann=key-of-ann,bob=key-of-bob", gateway_admin_key="admin-key"
    ) as found:
        yield found

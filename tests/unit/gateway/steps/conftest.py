from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clouds import cloud_settings
from tests.fakes.runpod_cloud import RunPodCloud
from tests.gateways import TestGateway, running_gateway


@pytest.fixture
def cloud() -> Iterator[RunPodCloud]:
    with RunPodCloud() as found:
        yield found


@pytest.fixture
def gateway(cloud: RunPodCloud, tmp_path: Path) -> Iterator[TestGateway]:
    """One that sends all its jobs to `cloud`."""
    with running_gateway(tmp_path, **cloud_settings(cloud)) as found:
        yield found

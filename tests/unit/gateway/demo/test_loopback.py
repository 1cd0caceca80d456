"""The demo serves its own machine only, and says what it is."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidSettings
from tests.gateways import running_gateway


@pytest.mark.parametrize(
    "given",
    [
        {"gateway_listen": "0.0.0.0:8787"},
        {"gateway_listen": "[::]:8787"},
        {"gateway_listen": "192.168.1.5:8787", "gateway_api_keys": "ann=key-of-ann"},
        {"gateway_public_url": "https://photos.example"},
        {"gateway_listen": "127.0.0.1:8787", "gateway_public_url": "https://10.0.0.1"},
    ],
    ids=str,
)
def test_elsewhere_it_does_not_start_and_says_why(tmp_path: Path, given: dict[str, Any]) -> None:
    given = {"gateway_api_keys": "ann=key-of-ann", **given}
    with (
        pytest.raises(InvalidSettings, match="draws over pictures instead of editing them"),
        running_gateway(tmp_path, gateway_route="demo", **given),
    ):
        pass
    with running_gateway(tmp_path, **given) as other:
        assert other.client.get("/ready").json()["demo"] is False


@pytest.mark.parametrize("listen", ["127.0.0.1:8787", "localhost:1", "[::1]:8787"])
def test_on_loopback_it_starts_and_says_what_it_is(tmp_path: Path, listen: str) -> None:
    with running_gateway(
        tmp_path,
        gateway_route="demo",
        gateway_listen=listen,
        gateway_public_url="http://localhost:8787",
    ) as gateway:
        answer = gateway.client.get("/ready")
        assert answer.status_code == 200
        assert (answer.json()["route"], answer.json()["demo"]) == ("demo", True)
        assert gateway.client.get("/api/options").json()["service"] == {"demo": True}
        assert gateway.status(gateway.create())["backend"] == "demo"

"""The demo serves its own machine only, and says what it is."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
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
def test_elsewhere_it_does_not_start_and_says_why(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="draws over pictures instead of editing them"):
        Settings(gateway_route="demo", **given)  # type: ignore[arg-type]
    assert Settings(**given).gateway_route == "own"  # type: ignore[arg-type]


@pytest.mark.parametrize("listen", ["127.0.0.1:8787", "localhost:1", "[::1]:8787"])
def test_on_loopback_it_starts(listen: str) -> None:
    settings = Settings(
        gateway_route="demo", gateway_listen=listen, gateway_public_url="http://localhost:8787"
    )
    assert settings.gateway_route == "demo"


def test_ready_says_that_it_is_the_demo(tmp_path: Path) -> None:
    with running_gateway(tmp_path, gateway_route="demo") as gateway:
        answer = gateway.client.get("/ready")
        assert answer.status_code == 200
        assert (answer.json()["route"], answer.json()["demo"]) == ("demo", True)
        assert gateway.status(gateway.create())["backend"] == "demo"


def test_elsewhere_ready_says_that_it_is_not(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert gateway.client.get("/ready").json()["demo"] is False

"""The environment: what is read, what is refused, and that no secret is repeated."""

from pathlib import Path

import pytest

from gateway.errors import InvalidSettings
from gateway.settings import Settings, is_secret, read_settings, secret_values, unknown_variables

SECRETS = [name.upper() for name, field in Settings.model_fields.items() if is_secret(field)]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


def test_nothing_set_is_a_gateway_on_loopback_with_sqlite() -> None:
    settings = read_settings()
    assert settings.listen == ("127.0.0.1", 8787)
    assert settings.database_url.startswith("sqlite:////")
    assert (settings.gateway_route, settings.gateway_attempts) == ("own", 3)
    assert settings.api_keys == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_LISTEN", "8787"),
        ("GATEWAY_LISTEN", "127.0.0.1:99999"),
        ("GATEWAY_RATE_LIMIT", "many"),
        ("GATEWAY_ATTEMPTS", "0"),
        ("GATEWAY_LEASE_S", "soon"),
        ("GATEWAY_ROUTE", "cloud"),
        ("GATEWAY_ROUTE", "runpod"),
        ("GATEWAY_PUBLIC_URL", "http://example.com"),
        ("RUNPOD_JOBS_URL", "http://api.example.com/v2"),
        ("GATEWAY_RESULT_PREFIX", "../"),
        ("GATEWAY_API_KEYS", "ann"),
        ("GATEWAY_API_KEYS", "ann=short"),
        ("GATEWAY_API_KEYS", "ann=long-enough,ann=long-enough-too"),
        ("GATEWAY_TRUSTED_PROXIES", "proxy"),
        ("BUCKET_NAME", "pictures"),
        ("GATEWAY_MAX_BODY_BYTES", "1"),
    ],
)
def test_a_wrong_value_stops_the_boot_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=name.partition("_")[0]) as caught:
        read_settings()
    assert "long-enough" not in caught.value.message


def test_every_fault_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ATTEMPTS", "0")
    monkeypatch.setenv("GATEWAY_LEASE_S", "0")
    with pytest.raises(InvalidSettings, match=r"GATEWAY_ATTEMPTS.*GATEWAY_LEASE_S"):
        read_settings()


@pytest.mark.parametrize("name", SECRETS)
def test_each_secret_can_come_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    value = "ann=long-enough-key" if name == "GATEWAY_API_KEYS" else "secret-in-a-file"
    (tmp_path / "secret").write_text(f"{value}\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    if name.startswith("BUCKET"):
        for other in ("BUCKET_ENDPOINT_URL", "BUCKET_NAME", "BUCKET_ACCESS_KEY_ID",
                      "BUCKET_SECRET_ACCESS_KEY"):  # fmt: skip
            if other != name:
                monkeypatch.setenv(other, "https://example.com" if "URL" in other else "pictures")
    settings = read_settings()
    assert getattr(settings, name.lower()).get_secret_value() == value
    assert value in secret_values(settings)
    assert value not in repr(settings)
    monkeypatch.setenv(name, "another-value")
    with pytest.raises(InvalidSettings, match="both"):
        read_settings()
    monkeypatch.delenv(name)
    (tmp_path / "secret").unlink()
    with pytest.raises(InvalidSettings, match="_FILE"):
        read_settings()


def test_http_is_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_JOBS_URL", "http://127.0.0.1:9000/v2/")
    assert read_settings().runpod_jobs_url == "http://127.0.0.1:9000/v2"


def test_a_name_that_nothing_reads_is_told_with_the_nearest() -> None:
    found = unknown_variables({"GATEWAY_LISTN": "x", "GATEWAY_ADMIN_KEY_FILE": "x", "HOME": "x"})
    assert found == {"GATEWAY_LISTN": ["GATEWAY_LISTEN"]}
